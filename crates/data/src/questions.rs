//! Questions with reference answers for evaluation: files of a test split, normalized like training rows, but neither
//! sampled nor filtered.

use std::collections::BTreeMap;

use synapse_recipe::Format;

use crate::format::{Normalizer, Refused};
use crate::read::{RowFile, Wanted};
use crate::row::{Dialogue, Row};
use crate::{DataError, Result, SourceFile};

/// Every question of the files with its answer, in order.
///
/// # Errors
/// A file that cannot be read, or a row without question or answer; file and place are named.
pub fn read_questions(files: &[SourceFile]) -> Result<Vec<(String, String)>> {
    let mut questions = Vec::new();
    for file in files {
        let rows = RowFile {
            path: &file.local,
            name: &file.name,
            most: None,
        };
        let normalizer = Normalizer::detect(&rows.columns()?, Some(Format::QuestionAnswer), &BTreeMap::new()).map_err(
            |message| DataError::Columns {
                dataset: file.name.clone(),
                message,
            },
        )?;
        rows.read(
            Wanted::Columns(&normalizer.columns()),
            &mut |place, record| match normalizer.row(&record) {
                Ok(Row::Chat(Dialogue { messages, .. })) => {
                    let content = |role: &str| {
                        messages
                            .iter()
                            .find(|message| message.role == role)
                            .map(|message| message.content.clone())
                    };
                    questions.extend(content("user").zip(content("assistant")));
                    Ok(())
                }
                Ok(Row::Document(_)) => Err(DataError::malformed(place, "not a question with its answer")),
                Err(Refused::Malformed(message)) => Err(DataError::malformed(place, message)),
                Err(Refused::Dropped(reason)) => Err(DataError::malformed(place, reason.replace('_', " "))),
            },
        )?;
    }
    Ok(questions)
}

/// Every row of a suite's file as it is: its place, and column → value.
///
/// # Errors
/// The file cannot be read; file and place are named.
pub fn read_records(file: &SourceFile) -> Result<Vec<(String, serde_json::Map<String, serde_json::Value>)>> {
    let rows = RowFile {
        path: &file.local,
        name: &file.name,
        most: None,
    };
    let mut records = Vec::new();
    rows.read(Wanted::All, &mut |place, record| {
        records.push((place.to_string(), record));
        Ok(())
    })?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn questions_come_in_order_and_a_row_without_answer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let local = folder.path().join("test.jsonl");
        let file = || {
            vec![SourceFile {
                name: "main/test.jsonl".into(),
                local: local.clone(),
                sha256: String::new(),
            }]
        };
        let good = "{\"question\": \"1 + 1?\", \"answer\": \"It is <<1+1=2>>2.\\n#### 2\"}\n{\"question\": \"2 + 2?\", \"answer\": \"#### 4\"}\n";
        std::fs::write(&local, good).unwrap();
        let questions = read_questions(&file()).unwrap();
        assert_eq!(questions[0], ("1 + 1?".to_owned(), "It is 2.\n#### 2".to_owned()));
        assert_eq!(questions.len(), 2);
        std::fs::write(
            &local,
            format!("{good}{{\"question\": \"3 + 3?\", \"answer\": \"\"}}\n"),
        )
        .unwrap();
        let error = read_questions(&file()).unwrap_err().to_string();
        assert!(error.contains("main/test.jsonl:3"), "{error}");
    }
}
