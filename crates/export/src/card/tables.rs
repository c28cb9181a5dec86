//! The card's tables: what was measured, and what the model was made from.

use std::fmt::Write as _;

use super::data::{CardData, CardKind, Comparison, Measured};
use super::{link, percent, with_separators};

pub(super) fn results(card: &CardData) -> Option<String> {
    if card.held_out_loss.is_empty() && card.scores.is_empty() {
        return None;
    }
    let merged = card.kind == CardKind::Merge;
    let mut text =
        String::from("## Results\n\nBase, specialists and result went through one harness; ± is the 95 % interval.\n");
    if !card.held_out_loss.is_empty() {
        text.push_str("\nHeld-out loss, nats per trained token (less is better):\n\n");
        header(&mut text, &["domain", "rows"], merged, merged.then_some("gain kept"));
        for row in &card.held_out_loss {
            let _ = write!(text, "| {} | {} |", row.domain, with_separators(row.count));
            cells(&mut text, row, merged, |measured| interval(measured, 1.0, 3, ""));
            if merged {
                let _ = write!(
                    text,
                    " {} |",
                    row.gain_kept()
                        .map_or("–".to_owned(), |kept| percent((kept * 100.0).round() / 100.0))
                );
            }
            text.push('\n');
        }
        if merged {
            text.push_str("\nGain kept = (base − merge) / (base − specialist).\n");
        }
    }
    if !card.scores.is_empty() {
        text.push_str("\nTask scores (more is better):\n\n");
        header(&mut text, &["suite", "metric", "questions"], merged, None);
        for score in &card.scores {
            let row = &score.comparison;
            let _ = write!(
                text,
                "| {} | {} | {} |",
                score.suite,
                score.metric,
                with_separators(row.count)
            );
            cells(&mut text, row, merged, |measured| interval(measured, 100.0, 1, " %"));
            text.push('\n');
        }
        for score in &card.scores {
            if let Some(note) = &score.note {
                let _ = write!(text, "\n{}: {note}\n", score.suite);
            }
        }
    }
    Some(text)
}

fn header(text: &mut String, first: &[&str], merged: bool, last: Option<&str>) {
    let mut columns = first.to_vec();
    columns.extend(["base", "specialist"]);
    if merged {
        columns.push("merge");
    }
    columns.extend(last);
    let _ = writeln!(text, "| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
}

fn cells(text: &mut String, row: &Comparison, merged: bool, show: impl Fn(Measured) -> String) {
    let measured = [row.base, row.specialist, row.merge];
    for cell in &measured[..if merged { 3 } else { 2 }] {
        let _ = write!(text, " {} |", cell.map_or("–".to_owned(), &show));
    }
}

/// Value and half-width of its interval (the wider half, if they differ).
fn interval(measured: Measured, factor: f64, decimals: usize, unit: &str) -> String {
    let half = (measured.value - measured.low).max(measured.high - measured.value) * factor;
    format!("{:.decimals$} ± {half:.decimals$}{unit}", measured.value * factor)
}

pub(super) fn made_from(card: &CardData) -> Option<String> {
    if card.specialists.is_empty() && card.datasets.is_empty() {
        return None;
    }
    let mut text = String::from("## Training\n");
    if !card.specialists.is_empty() {
        text.push_str("\n| specialist | method | rows | steps | learning rate |\n|---|---|---|---|---|\n");
        for specialist in &card.specialists {
            let (rows, steps) = (with_separators(specialist.rows), with_separators(specialist.steps));
            let _ = writeln!(
                text,
                "| {} | {} | {rows} | {steps} | {:e} |",
                specialist.name, specialist.method, specialist.learning_rate
            );
        }
    }
    if !card.datasets.is_empty() {
        text.push_str("\n| data | specialist | rows used | revision |\n|---|---|---|---|\n");
        for dataset in &card.datasets {
            let revision = dataset
                .source
                .revision
                .as_deref()
                .map_or("–".to_owned(), |revision| format!("`{}`", short(revision)));
            let _ = writeln!(
                text,
                "| {} | {} | {} | {revision} |",
                link(&dataset.source),
                dataset.specialist,
                with_separators(dataset.rows)
            );
        }
    }
    if let Some(revision) = &card.base.revision {
        let _ = writeln!(text, "\nBase: {} at `{revision}`.", link(&card.base));
    }
    let hashes: Vec<_> = card
        .specialists
        .iter()
        .filter_map(|specialist| Some((&specialist.name, specialist.hash.as_ref()?)))
        .collect();
    if !hashes.is_empty() {
        text.push_str("\nSHA-256 of the adapters:\n\n");
        for (name, hash) in hashes {
            let _ = writeln!(text, "- {name}: `{hash}`");
        }
    }
    Some(text)
}

/// A commit as git shortens it.
fn short(revision: &str) -> &str {
    revision.get(..12).unwrap_or(revision)
}
