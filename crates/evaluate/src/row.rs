//! The rows that suites measure on, and reading them from JSONL.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use synapse_tokenizer::Message;

use crate::{EvaluateError, Result};

/// One held-out document as the trainer sees it: tokens and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// As long as `input_ids`, aligned with it; −100 where a token is not counted.
    pub labels: Vec<i64>,
}

/// One held-out conversation, with tests where its answer is code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Where the row comes from.
    #[serde(default)]
    pub source: String,
    /// What a generated prompt is made of: `template` or `real`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The conversation; empty for plain text.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// Descriptions of functions that the conversation may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Calls that the answered function has to get right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<CallTest>,
}

impl Row {
    /// The conversation up to the last answer, and that answer. `None` if it does not end in an answer, or may call
    /// tools: suites ask without them, which would be another question.
    #[must_use]
    pub fn question_and_answer(&self) -> Option<(&[Message], &str)> {
        let (last, before) = self.messages.split_last()?;
        (last.role == "assistant" && !before.is_empty() && self.tools.is_empty())
            .then_some((before, last.content.as_str()))
    }
}

/// One call of an answered function and what it has to return.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallTest {
    /// Arguments, as JSON.
    pub args: Vec<Value>,
    /// The value to be returned, as JSON.
    pub expected: Value,
}

/// One question with its worked answer, as GSM8K has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionAnswer {
    /// The question.
    pub question: String,
    /// The answer, ending in `#### N`.
    pub answer: String,
}

/// One multiple-choice question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceRow {
    /// Stable id; the row's index where there is none.
    #[serde(default)]
    pub id: Option<String>,
    /// What it is about, such as MMLU's subject; scored apart as well.
    #[serde(default)]
    pub group: Option<String>,
    /// The question.
    pub question: String,
    /// The answers to choose from, two or more.
    pub choices: Vec<String>,
    /// The right one.
    pub answer: Answer,
}

/// The right choice, by index from 0 or by letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// Index from 0.
    Index(usize),
    /// `A`, `B`, … or the number written as text.
    Letter(String),
}

impl Answer {
    /// The index from 0; `None` when the letter is none.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::Index(index) => Some(*index),
            Self::Letter(text) => match text.trim().as_bytes() {
                [letter @ b'A'..=b'Z'] => Some(usize::from(letter - b'A')),
                [letter @ b'a'..=b'z'] => Some(usize::from(letter - b'a')),
                _ => text.trim().parse().ok(),
            },
        }
    }
}

/// Reads held-out conversations from JSONL; plain-text rows come back without messages.
///
/// # Errors
/// [`EvaluateError::File`] when the file cannot be read, [`EvaluateError::Row`] with the line that does not parse.
pub fn read_rows(path: &Path) -> Result<Vec<Row>> {
    read_jsonl(path)
}

/// Reads one JSON value a line, skipping blank lines: [`Row`], [`QuestionAnswer`], [`ChoiceRow`], code tasks.
///
/// # Errors
/// [`EvaluateError::File`] when the file cannot be read, [`EvaluateError::Row`] with the line that does not parse.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).map_err(|source| EvaluateError::read(path, source))?;
    parse_jsonl(&text, path)
}

pub(crate) fn parse_jsonl<T: DeserializeOwned>(text: &str, path: &Path) -> Result<Vec<T>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| EvaluateError::Row {
                path: path.to_owned(),
                line: index + 1,
                message: error.to_string(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_bad_line_is_named() {
        let text = "{\"question\":\"q\",\"answer\":\"a\"}\n\n{\"question\":3}\n";
        let error = parse_jsonl::<QuestionAnswer>(text, Path::new("rows.jsonl")).unwrap_err();
        assert!(error.to_string().starts_with("rows.jsonl:3: "), "{error}");
    }

    #[test]
    fn answers_by_index_letter_and_number_text() {
        let index = |json: &str| serde_json::from_str::<Answer>(json).unwrap().index();
        assert_eq!(
            [index("2"), index("\"C\""), index("\"c\""), index("\"2\"")],
            [Some(2); 4]
        );
        assert_eq!(index("\"none\""), None);
    }
}
