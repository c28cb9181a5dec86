//! The user's own questions: JSONL rows that name their scorer.

use serde_json::Value;
use synapse_tokenizer::Message;

use super::source_row::{RowReader, SourceRow};
use crate::Result;
use crate::number::{Number, final_answer, reference_answer};

/// How an answer is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// The same text, except for surrounding white space.
    Exact,
    /// The same text, except for case, surrounding white space and a final period.
    IgnoreCase,
    /// The expected text occurs in the answer.
    Contains,
    /// The same final number, extracted as in gsm8k.
    Number,
    /// The same JSON value, regardless of white space and key order.
    Json,
}

/// Scorers by the name rows use.
const SCORERS: [(&str, Scorer); 5] = [
    ("exact", Scorer::Exact),
    ("ignore-case", Scorer::IgnoreCase),
    ("contains", Scorer::Contains),
    ("number", Scorer::Number),
    ("json", Scorer::Json),
];

impl Scorer {
    /// Whether `answer` is what was expected.
    #[must_use]
    pub fn judges(self, answer: &str, expected: &str) -> bool {
        let plain = |text: &str| text.trim().trim_end_matches('.').trim_end().to_lowercase();
        match self {
            Self::Exact => answer.trim() == expected.trim(),
            Self::IgnoreCase => plain(answer) == plain(expected),
            Self::Contains => answer.contains(expected),
            Self::Number => final_answer(answer).map(|(number, _)| number) == stated_number(expected),
            Self::Json => {
                let parsed = |text: &str| serde_json::from_str::<Value>(text.trim()).ok();
                parsed(answer).is_some() && parsed(answer) == parsed(expected)
            }
        }
    }

    /// Why an expected answer is unusable for this scorer, if it is.
    fn refuses(self, expected: &str) -> Option<&'static str> {
        match self {
            Self::Number if stated_number(expected).is_none() => Some("states no number"),
            Self::Json if serde_json::from_str::<Value>(expected).is_err() => Some("is not JSON"),
            Self::Contains if expected.is_empty() => Some("is empty, which every answer contains"),
            _ => None,
        }
    }
}

fn stated_number(expected: &str) -> Option<Number> {
    reference_answer(expected).or_else(|| Number::last(expected))
}

/// One question with its accepted answers.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomRow {
    /// Stable id.
    pub id: String,
    /// The conversation up to the question.
    pub messages: Vec<Message>,
    /// The accepted answers.
    pub answers: Vec<String>,
    /// How an answer is scored.
    pub scorer: Scorer,
}

/// `{"id"?, "prompt" | "messages", "answer": text or list of texts, "scorer"}`.
///
/// # Errors
/// [`crate::EvaluateError::DatasetRow`] with the row that is laid out otherwise.
pub fn custom(rows: &[SourceRow]) -> Result<Vec<CustomRow>> {
    rows.iter().enumerate().map(|(index, row)| read(index, row)).collect()
}

fn read(index: usize, row: &SourceRow) -> Result<CustomRow> {
    let row = RowReader::new("custom", row);
    for column in row.fields.keys() {
        if !["id", "prompt", "messages", "answer", "scorer"].contains(&column.as_str()) {
            return Err(row.invalid(format!(
                "unknown field `{column}`; a row has id, prompt or messages, answer and scorer"
            )));
        }
    }
    let named = row.nonempty_text("scorer")?;
    let scorer = SCORERS.iter().find(|(name, _)| *name == named).ok_or_else(|| {
        let known: Vec<&str> = SCORERS.iter().map(|(name, _)| *name).collect();
        row.invalid(format!(
            "unknown scorer `{named}`; the scorers are {}",
            known.join(", ")
        ))
    })?;
    let scorer = scorer.1;
    let answers = match row.value("answer")? {
        Value::Array(_) => row.texts("answer")?,
        _ => vec![row.text("answer")?.to_owned()],
    };
    if answers.is_empty() {
        return Err(row.invalid("`answer` is an empty list, so nothing is right"));
    }
    for answer in &answers {
        if let Some(why) = scorer.refuses(answer) {
            return Err(row.invalid(format!("the answer `{answer}` {why}")));
        }
    }
    let messages = match (row.fields.get("messages"), row.optional_text("prompt")?) {
        (None, Some(prompt)) => vec![Message::new("user", prompt)],
        (Some(messages), None) => serde_json::from_value::<Vec<Message>>(messages.clone())
            .map_err(|error| row.invalid(format!("`messages`: {error}")))?,
        _ => return Err(row.invalid("a row has either `prompt` or `messages`")),
    };
    if messages.last().is_none_or(|message| message.role != "user") {
        return Err(row.invalid("the last message is not the user's"));
    }
    Ok(CustomRow {
        id: row
            .optional_text("id")?
            .map_or_else(|| format!("custom-{index}"), str::to_owned),
        messages,
        answers,
        scorer,
    })
}
