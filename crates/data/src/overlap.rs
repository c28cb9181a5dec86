//! Contamination: training rows that share thirteen words in a row with what a model is measured by.

use std::collections::HashSet;

use crate::read::{Record, RowFile};
use crate::words::{runs, words};
use crate::{Result, SourceFile};

/// Words in a row that are taken to be no chance.
const RUN: usize = 13;

/// Runs of words that must not be trained on.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    runs: HashSet<u64>,
}

impl Overlaps {
    /// Keeps a text out. One shorter than a run has none: whole rows that equal it are found by their fingerprint.
    pub(crate) fn keep_out(&mut self, text: &str) {
        let words = words(text);
        if words.len() >= RUN {
            self.runs.extend(runs(&words, RUN));
        }
    }

    /// Whether a text shares a run with one that is kept out.
    pub(crate) fn touches(&self, text: &str) -> bool {
        let words = words(text);
        !self.runs.is_empty() && words.len() >= RUN && runs(&words, RUN).any(|run| self.runs.contains(&run))
    }
}

/// Every text in the rows of a file, whatever its columns mean: a benchmark's questions, answers and tests.
///
/// # Errors
/// The file cannot be read; the place is named.
pub fn read_texts(file: &SourceFile) -> Result<Vec<String>> {
    let rows = RowFile {
        path: &file.local,
        name: &file.name,
        most: None,
    };
    let mut texts = Vec::new();
    rows.read(&rows.columns()?, &mut |_, record: Record| {
        record.values().for_each(|value| collect(value, &mut texts));
        Ok(())
    })?;
    Ok(texts)
}

fn collect(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() {
        let question = "Natalia sold clips to 48 of her friends in April, and then she sold half as many.";
        let mut overlaps = Overlaps::default();
        overlaps.keep_out(question);
        overlaps.keep_out("too short to matter");
        assert!(overlaps.touches("Q: natalia SOLD clips to 48 of her friends in April and then she left"));
        assert!(!overlaps.touches("natalia sold clips to 48 of her friends in april and then"));
        assert!(!overlaps.touches("too short to matter"));
    }
}
