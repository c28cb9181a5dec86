//! Which modules fired for each token of an answer, as a heat map under its text: a column a token, a row a module.
//!
//! Like the chat page's, but without a script: the numbers are there as a pointer rests on a token, and in a sentence.

use std::fmt::Write;

use super::data::TokenTrace;
use super::html::escaped;

/// One answer; nothing where there is no token.
pub(super) fn draw(trace: &TokenTrace) -> String {
    if trace.tokens.is_empty() {
        return String::new();
    }
    let most_read = trace.memory_reads.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let words = in_words(trace);
    let mut html = format!(
        "<article class=\"trace\">\n<p class=\"prompt\"><small>{} · {}</small>{}</p>\n<figure>\n<figcaption>{}</figcaption>\n\
         <div class=\"fired\"><div class=\"names\" aria-hidden=\"true\"><span>&nbsp;</span>",
        escaped(&trace.domain),
        escaped(&trace.subject),
        escaped(&trace.prompt),
        escaped(&words)
    );
    for name in trace
        .modules
        .iter()
        .map(String::as_str)
        .chain(["memory writes", "memory reads"])
    {
        // Writing to a string cannot fail.
        let _ = write!(html, "<span>{}</span>", escaped(name));
    }
    let _ = write!(
        html,
        "</div><div class=\"tokens\" tabindex=\"0\" role=\"img\" aria-label=\"{}\">",
        escaped(&format!(
            "Which modules fired for each token of: {}",
            trace.tokens.concat()
        ))
    );
    for (at, token) in trace.tokens.iter().enumerate() {
        let (write_strength, read) = (trace.memory_writes[at], trace.memory_reads[at]);
        let mut fired: Vec<(&str, f64)> = trace
            .modules
            .iter()
            .map(String::as_str)
            .zip(trace.weights[at].iter().copied())
            .filter(|(_, weight)| *weight > 0.005)
            .collect();
        fired.sort_by(|a, b| b.1.total_cmp(&a.1));
        let list: Vec<String> = fired
            .iter()
            .map(|(name, weight)| format!("{name} {:.0} %", 100.0 * weight))
            .collect();
        let title = format!(
            "{}; memory writes {write_strength:.2}, reads {read:.2}",
            list.join(", ")
        );
        let _ = write!(
            html,
            "<span title=\"{}\"><b>{}</b>",
            escaped(&title),
            escaped(&visible(token))
        );
        let rows = trace.weights[at].iter().copied();
        for value in rows.chain([write_strength, read / most_read]) {
            let _ = write!(html, "<i style=\"--weight:{:.2}\"></i>", value.clamp(0.0, 1.0));
        }
        html.push_str("</span>");
    }
    html.push_str("</div></div>\n</figure>\n</article>\n");
    html
}

/// Spaces and ends of lines as signs, so that every token has a width.
fn visible(token: &str) -> String {
    token.replace('\n', "⏎").replace(' ', "·")
}

/// The means over the answer.
fn in_words(trace: &TokenTrace) -> String {
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
