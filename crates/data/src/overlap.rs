//! Contamination: training rows that share thirteen words in a row with what a model is measured by. Every overlap can
//! be shown: the words, and where else they stand.

use std::collections::HashMap;

use crate::format::without_calculator_marks;
use crate::read::{Record, RowFile};
use crate::words::{runs, spelled, words};
use crate::{Result, SourceFile};

/// Words in a row that are taken to be no chance.
const RUN: usize = 13;

/// Runs of words that must not be trained on.
#[derive(Debug, Default)]
pub(crate) struct Overlaps {
    /// Run → index of its name.
    runs: HashMap<u64, usize>,
    names: Vec<String>,
}

impl Overlaps {
    /// Keeps texts out, all known by one name. One shorter than a run has none: whole rows that equal it are found by
    /// their fingerprint.
    pub(crate) fn keep_out<'t>(&mut self, name: &str, texts: impl IntoIterator<Item = &'t str>) {
        for text in texts {
            let words = words(text);
            if words.len() >= RUN {
                let index = self.names.len();
                runs(&words, RUN).for_each(|run| {
                    self.runs.entry(run).or_insert(index);
                });
            }
        }
        self.names.push(name.to_owned());
    }

    /// The first run that a text shares with one that is kept out: its words and where else they stand.
    pub(crate) fn shared(&self, text: &str) -> Option<String> {
        if self.runs.is_empty() {
            return None;
        }
        let words = words(text);
        if words.len() < RUN {
            return None;
        }
        let found = runs(&words, RUN).enumerate();
        let (at, index) = found.filter_map(|(at, run)| Some((at, *self.runs.get(&run)?))).next()?;
        let shared: Vec<&str> = spelled(text).skip(at).take(RUN).collect();
        Some(format!("“{}” is in {}", shared.join(" "), self.names[index]))
    }
}

/// Every text in the rows of a file, whatever its columns mean: a benchmark's questions, answers and tests, as they are
/// and as training rows would have them.
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
        serde_json::Value::String(text) => {
            let unmarked = without_calculator_marks(text.clone());
            if unmarked != *text {
                texts.push(unmarked);
            }
            texts.push(text.clone());
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    #[test]
    fn thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() {
        let question = "Natalia sold clips to 48 of her friends in April, and then she sold half as many.";
        let mut overlaps = Overlaps::default();
        overlaps.keep_out("test.jsonl", [question, "too short to matter"]);
        assert_eq!(
            overlaps
                .shared("Q: natalia SOLD clips to 48 of her friends in April and then she left")
                .unwrap(),
            "“natalia SOLD clips to 48 of her friends in April and then she” is in test.jsonl"
        );
        assert!(
            overlaps
                .shared("natalia sold clips to 48 of her friends in april and then")
                .is_none()
        );
        assert!(overlaps.shared("too short to matter").is_none());
    }

    #[test]
    fn answers_are_kept_out_with_and_without_calculator_marks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.jsonl");
        let answer = "He sold 48/2 = <<48/2=24>>24 clips, then he sold 2 more in May.\\n#### 26";
        std::fs::write(&path, format!("{{\"question\": \"q\", \"answer\": \"{answer}\"}}")).unwrap();
        let texts = read_texts(&SourceFile::local(&path).unwrap()).unwrap();
        let mut overlaps = Overlaps::default();
        overlaps.keep_out("test.jsonl", texts.iter().map(String::as_str));
        for trained in [
            "He sold 48/2 = 24 clips, then he sold 2 more in May.",
            "He sold 48/2 = <<48/2=24>>24 clips, then he sold 2 more",
        ] {
            assert!(overlaps.shared(trained).is_some(), "{trained}");
        }
    }
}
