//! The module weights of each token of an answer: a heat map under the text, one column per token, one row per module.
//!
//! Like the chat page's, but without a script: the numbers are in the tokens' titles and in a sentence.

use serde::Serialize;

use super::data::TokenTrace;

#[derive(Serialize)]
pub(super) struct Trace<'a> {
    domain: &'a str,
    model: &'a str,
    prompt: &'a str,
    summary: String,
    rows: Vec<&'a str>,
    label: String,
    tokens: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    title: String,
    text: String,
    /// Between 0 and 1, with two digits: the modules', then what the memory wrote and read.
    weights: Vec<String>,
}

/// `None` for an answer without tokens.
pub(super) fn trace(trace: &TokenTrace) -> Option<Trace<'_>> {
    if trace.tokens.is_empty() {
        return None;
    }
    let most_read = trace.memory_reads.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let modules = trace.modules.iter().map(String::as_str);
    Some(Trace {
        domain: &trace.domain,
        model: &trace.model,
        prompt: &trace.prompt,
        summary: summary(trace),
        rows: modules.chain(["memory writes", "memory reads"]).collect(),
        label: format!("Module weights for each token of: {}", trace.tokens.concat()),
        tokens: (0..trace.tokens.len()).map(|at| token(trace, at, most_read)).collect(),
    })
}

fn token(trace: &TokenTrace, at: usize, most_read: f64) -> Token {
    let (write_strength, read) = (trace.memory_writes[at], trace.memory_reads[at]);
    let weights = || trace.weights[at].iter().copied();
    let mut active: Vec<(&str, f64)> = trace
        .modules
        .iter()
        .map(String::as_str)
        .zip(weights())
        .filter(|(_, weight)| *weight > 0.005)
        .collect();
    active.sort_by(|a, b| b.1.total_cmp(&a.1));
    let list: Vec<String> = active
        .iter()
        .map(|(name, weight)| format!("{name} {:.0} %", 100.0 * weight))
        .collect();
    Token {
        title: format!(
            "{}; memory writes {write_strength:.2}, reads {read:.2}",
            list.join(", ")
        ),
        // visible signs for spaces and line ends, so that every token has a width
        text: trace.tokens[at].replace('\n', "⏎").replace(' ', "·"),
        weights: weights()
            .chain([write_strength, read / most_read])
            .map(|value| format!("{:.2}", value.clamp(0.0, 1.0)))
            .collect(),
    }
}

/// The means over the answer.
fn summary(trace: &TokenTrace) -> String {
    let count = trace.tokens.len() as f64;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count;
    let shares: Vec<String> = trace
        .modules
        .iter()
        .enumerate()
        .map(|(module, name)| {
            let share = mean(&mut trace.weights.iter().map(|weights| weights[module]));
            format!("{name} {:.0} %", 100.0 * share)
        })
        .collect();
    format!(
        "Mean over the answer: {}; the memory writes with strength {:.2}.",
        shares.join(", "),
        mean(&mut trace.memory_writes.iter().copied())
    )
}
