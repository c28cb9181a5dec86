//! The model card: a README.md whose every number is handed in as data by whoever measured it. This module decides how
//! a card reads; it measures nothing, and it leaves out what it was not told.

mod data;
mod front_matter;
mod license;
mod tables;
mod usage;

use std::fmt::Write as _;

pub use data::{
    CardData, CardDataset, CardGate, CardInput, CardKind, CardMerge, CardScore, CardSpecialist, Comparison, Measured,
};

/// The text of a README.md with YAML front matter, as the Hugging Face Hub reads it. The same data gives the same text.
#[must_use]
pub fn model_card(card: &CardData) -> String {
    let mut sections = vec![front_matter::section(card), head(card)];
    sections.extend(tables::results(card));
    sections.extend(tables::made_from(card));
    sections.extend(merge(card));
    sections.push(license::section(card));
    sections.push(usage::section(card));
    sections.extend(notes(card));
    sections.push(format!("Made with Synapse {}.\n", card.tool_version));
    sections.join("\n")
}

fn head(card: &CardData) -> String {
    let base = link(&card.base);
    let what = match card.kind {
        CardKind::Adapter => format!("A LoRA adapter for {base}."),
        CardKind::Tuned => format!("{base} with all its parameters trained further."),
        CardKind::Merge => {
            let names: Vec<&str> = card
                .specialists
                .iter()
                .map(|specialist| specialist.name.as_str())
                .collect();
            format!(
                "{} with {} merged into its weights: {}.",
                base,
                count(names.len(), "specialist"),
                names.join(", ")
            )
        }
    };
    let mut text = format!("# {}\n\n{what}\n", card.name);
    if !card.summary.is_empty() {
        let _ = write!(text, "\n{}\n", card.summary.trim_end());
    }
    let facts = [
        card.parameters
            .map(|parameters| format!("{} parameters", with_separators(parameters))),
        card.context_length
            .map(|tokens| format!("context of {} tokens", with_separators(tokens))),
        card.dtype.as_ref().map(|dtype| format!("stored as {dtype}")),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    if !facts.is_empty() {
        let _ = write!(text, "\n{}.\n", capitalized(&facts.join(", ")));
    }
    text
}

fn merge(card: &CardData) -> Option<String> {
    let merge = card.merge.as_ref()?;
    let kept = merge.trim.map(|trim| {
        format!(
            "\n- trim {trim} = keep {} of each tensor's changes, the largest",
            percent(1.0 - trim)
        )
    });
    let sign = merge.sign.as_ref().map(|sign| {
        let how = match sign.as_str() {
            "frequency" => " (each specialist has one vote on an entry's sign; a draw merges nothing)",
            "total" => " (the sign of the summed changes wins)",
            _ => "",
        };
        format!("\n- sign: {sign}{how}")
    });
    let weights: Vec<String> = merge
        .weights
        .iter()
        .map(|(name, weight)| format!("{name} {weight}"))
        .collect();
    let mut text = format!(
        "## Merge\n\n- method: {}{}{}\n- lambda: {}\n",
        merge.method,
        kept.unwrap_or_default(),
        sign.unwrap_or_default(),
        merge.lambda
    );
    if !weights.is_empty() {
        let _ = writeln!(text, "- weights: {}", weights.join(", "));
    }
    text.push_str("\n`merge.yaml` in this folder holds the whole recipe; running it again gives the same bytes.\n");
    if let Some(gate) = &card.gate {
        let verdict = if gate.passed { "passed" } else { "**failed**" };
        let _ = writeln!(
            text,
            "\nGate: {verdict}. No domain may lose more than {} on {} against the base.",
            gate.max_regress, gate.on
        );
        for failure in &gate.failures {
            let _ = writeln!(text, "- {failure}");
        }
    }
    Some(text)
}

fn notes(card: &CardData) -> Option<String> {
    (!card.notes.is_empty()).then(|| {
        let notes: Vec<String> = card.notes.iter().map(|note| format!("- {note}\n")).collect();
        format!("## What to know\n\n{}", notes.concat())
    })
}

/// A link to the hub, or the plain name of what is not there.
fn link(input: &CardInput) -> String {
    let id = &input.id;
    if input.local {
        format!("`{id}`")
    } else {
        format!("[{id}](https://huggingface.co/{id})")
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A share as a percentage without float dust: 0.2 is "20 %", 0.125 is "12.5 %".
fn percent(share: f64) -> String {
    let rounded = (share * 100_000.0).round() / 1_000.0;
    format!("{rounded} %")
}

fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}
