//! Decontamination: finds training rows that share thirteen successive words with evaluation data. Every overlap can be
//! shown: the words, and the text that has them too.

use std::collections::HashMap;

use crate::format::without_calculator_marks;
use crate::read::{Record, RowFile, Wanted};
use crate::shingles::{shingles, word_hashes, words};
use crate::{Result, SourceFile};

/// Shared successive words that count as contamination.
const SHINGLE_WORDS: usize = 13;

/// Shingles that must not be trained on.
#[derive(Debug, Default)]
pub(crate) struct Contamination {
    /// Shingle → index of its text's name.
    shingles: HashMap<u64, usize>,
    names: Vec<String>,
}

impl Contamination {
    /// Adds texts under one name. A text shorter than a shingle has none; whole rows that equal it are found by their
    /// fingerprint.
    pub(crate) fn add<'t>(&mut self, name: &str, texts: impl IntoIterator<Item = &'t str>) {
        for text in texts {
            let word_hashes = word_hashes(text);
            if word_hashes.len() >= SHINGLE_WORDS {
                let index = self.names.len();
                shingles(&word_hashes, SHINGLE_WORDS).for_each(|shingle| {
                    self.shingles.entry(shingle).or_insert(index);
                });
            }
        }
        self.names.push(name.to_owned());
    }

    /// The first shingle that a text shares with an added one: its words and the name.
    pub(crate) fn shared(&self, text: &str) -> Option<String> {
        if self.shingles.is_empty() {
            return None;
        }
        let word_hashes = word_hashes(text);
        if word_hashes.len() < SHINGLE_WORDS {
            return None;
        }
        let found = shingles(&word_hashes, SHINGLE_WORDS).enumerate();
        let (at, index) = found
            .filter_map(|(at, shingle)| Some((at, *self.shingles.get(&shingle)?)))
            .next()?;
        let shared: Vec<&str> = words(text).skip(at).take(SHINGLE_WORDS).collect();
        Some(format!("“{}” is in {}", shared.join(" "), self.names[index]))
    }
}

/// Every text in the rows of a file, from all columns: a benchmark's questions, answers and tests, unchanged and as
/// training rows would have them.
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
    rows.read(Wanted::All, &mut |_, record: Record| {
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
        let mut overlaps = Contamination::default();
        overlaps.add("test.jsonl", [question, "too short to matter"]);
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
        let mut overlaps = Contamination::default();
        overlaps.add("test.jsonl", texts.iter().map(String::as_str));
        for trained in [
            "He sold 48/2 = 24 clips, then he sold 2 more in May.",
            "He sold 48/2 = <<48/2=24>>24 clips, then he sold 2 more",
        ] {
            assert!(overlaps.shared(trained).is_some(), "{trained}");
        }
    }
}
