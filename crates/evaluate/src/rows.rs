//! The rows that suites are measured on, and reading them from JSONL.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use synapse_tokenizer::Message;

use crate::{EvaluateError, Result};

/// One held-out document as the trainer sees it: tokens and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldOutDocument {
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// As long as `input_ids`, aligned with it; −100 where a token is not a target.
    pub labels: Vec<i64>,
}

/// One held-out conversation, with tests where its answer is code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutConversation {
    /// Where the row comes from.
    #[serde(default)]
    pub source: String,
    /// The origin of a generated prompt: `template` or `real`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The conversation; empty for plain text.
    #[serde(default)]
    pub messages: Vec<Message>,
    /// Schemas of the tools that the conversation may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Calls with expected results, for a function as the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<CallTest>,
}

impl HeldOutConversation {
    /// The conversation up to the last answer, and that answer. `None` if it does not end in an answer, or has tools:
    /// suites prompt without tools, which would change the question.
    #[must_use]
    pub fn question_and_answer(&self) -> Option<(&[Message], &str)> {
        let (last, before) = self.messages.split_last()?;
        (last.role == "assistant" && !before.is_empty() && self.tools.is_empty())
            .then_some((before, last.content.as_str()))
    }
}

/// One call of the generated function with its expected result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallTest {
    /// Arguments, as JSON.
    pub args: Vec<Value>,
    /// The expected result, as JSON.
    pub expected: Value,
}

/// One question with its worked answer, in GSM8K's format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionAnswer {
    /// The question.
    pub question: String,
    /// The answer, ending in `#### N`.
    pub answer: String,
}

/// One multiple-choice question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultipleChoiceRow {
    /// Stable id; the row's index if absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Its category, such as MMLU's subject; also scored separately.
    #[serde(default)]
    pub group: Option<String>,
    /// The question.
    pub question: String,
    /// The answers to choose from, two or more.
    pub choices: Vec<String>,
    /// The correct choice.
    pub answer: CorrectChoice,
}

/// The correct choice, by index from 0 or by letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CorrectChoice {
    /// Index from 0.
    Index(usize),
    /// `A`, `B`, … or the number written as text.
    Letter(String),
}

impl fmt::Display for CorrectChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(formatter, "{index}"),
            Self::Letter(text) => write!(formatter, "`{text}`"),
        }
    }
}

impl CorrectChoice {
    /// The index from 0; `None` if the text is neither a letter nor a number.
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
/// [`EvaluateError::File`] when the file cannot be read, [`EvaluateError::JsonLine`] with the line that does not parse.
pub fn read_rows(path: &Path) -> Result<Vec<HeldOutConversation>> {
    read_jsonl(path)
}

/// Reads one JSON value per line, skipping blank lines: [`HeldOutConversation`], [`QuestionAnswer`], [`MultipleChoiceRow`], code tasks.
///
/// # Errors
/// [`EvaluateError::File`] when the file cannot be read, [`EvaluateError::JsonLine`] with the line that does not parse.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).map_err(|source| EvaluateError::read(path, source))?;
    parse_jsonl(&text, path)
}

pub(crate) fn parse_jsonl<T: DeserializeOwned>(text: &str, path: &Path) -> Result<Vec<T>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| EvaluateError::JsonLine {
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
        let index = |json: &str| serde_json::from_str::<CorrectChoice>(json).unwrap().index();
        assert_eq!(
            [index("2"), index("\"C\""), index("\"c\""), index("\"2\"")],
            [Some(2); 4]
        );
        assert_eq!(index("\"none\""), None);
    }
}
