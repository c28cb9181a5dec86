//! Suites of one's own: JSONL rows that say how they are scored.

use serde_json::Value;
use synapse_tokenizer::Message;

use super::{Reading, SourceRow};
use crate::Result;
use crate::number::{Number, final_answer, reference_answer};

/// How an answer is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scorer {
    /// The same text, but for space around it.
    Exact,
    /// The same text in upper or lower case, but for space and a full stop around it.
    IgnoreCase,
    /// The expected text occurs in the answer.
    Contains,
    /// The answer comes to the same number, found as gsm8k finds it.
    Number,
    /// The same JSON value, whatever its spacing and order of keys.
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

    /// Why an expected answer cannot be compared with, if it cannot.
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

/// One question with its answers, any of which is right.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomRow {
    /// Stable id.
    pub id: String,
    /// What is asked.
    pub messages: Vec<Message>,
    /// What is right.
    pub answers: Vec<String>,
    /// How an answer is judged.
    pub scorer: Scorer,
}

/// `{"id"?, "prompt" | "messages", "answer": text or list of texts, "scorer"}`.
///
/// # Errors
/// [`crate::EvaluateError::Layout`] with the row that is laid out otherwise.
pub fn custom(rows: &[SourceRow]) -> Result<Vec<CustomRow>> {
    rows.iter().enumerate().map(|(index, row)| read(index, row)).collect()
}

fn read(index: usize, row: &SourceRow) -> Result<CustomRow> {
    let row = Reading::new("custom", row);
    for column in row.fields.keys() {
        if !["id", "prompt", "messages", "answer", "scorer"].contains(&column.as_str()) {
            return Err(row.fault(format!(
                "unknown field `{column}`; a row has id, prompt or messages, answer and scorer"
            )));
        }
    }
    let named = row.words("scorer")?;
    let scorer = SCORERS.iter().find(|(name, _)| *name == named).ok_or_else(|| {
        let known: Vec<&str> = SCORERS.iter().map(|(name, _)| *name).collect();
        row.fault(format!("unknown scorer `{named}`; there are {}", known.join(", ")))
    })?;
    let scorer = scorer.1;
    let answers = match row.value("answer")? {
        Value::Array(_) => row.texts("answer")?,
        _ => vec![row.text("answer")?.to_owned()],
    };
    if answers.is_empty() {
        return Err(row.fault("`answer` is an empty list, so nothing is right"));
    }
    for answer in &answers {
        if let Some(why) = scorer.refuses(answer) {
            return Err(row.fault(format!("the answer `{answer}` {why}")));
        }
    }
    let messages = match (row.fields.get("messages"), row.optional_text("prompt")?) {
        (None, Some(prompt)) => vec![Message::new("user", prompt)],
        (Some(messages), None) => serde_json::from_value::<Vec<Message>>(messages.clone())
            .map_err(|error| row.fault(format!("`messages`: {error}")))?,
        _ => return Err(row.fault("a row has either `prompt` or `messages`")),
    };
    if messages.last().is_none_or(|message| message.role != "user") {
        return Err(row.fault("the last message is not the user's"));
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
