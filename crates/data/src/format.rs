//! What the columns of a source mean: detects the format and turns records into rows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use synapse_recipe::Format;
use synapse_tokenizer::Message;

use crate::read::Record;
use crate::row::{Dialogue, Row};

mod message;
mod tools;

use message::{conversation, text_of, unread_keys};
use tools::{parsed, tools};

/// A field of a format: its name, other names it goes by, and whether rows must have it.
struct Field {
    name: &'static str,
    aliases: &'static [&'static str],
    required: bool,
}

const fn field(name: &'static str, aliases: &'static [&'static str]) -> Field {
    Field {
        name,
        aliases,
        required: true,
    }
}

const fn optional(name: &'static str, aliases: &'static [&'static str]) -> Field {
    Field {
        name,
        aliases,
        required: false,
    }
}

/// A system turn, where the conversation has none of its own.
const SYSTEM: Field = optional("system", &["system_prompt"]);
/// Tests of the answer, for suites that run it.
const TESTS: Field = optional("tests", &[]);
/// Descriptions of tools that a conversation may call.
const TOOLS: Field = optional("tools", &[]);
/// Fields that hold lists of turns.
const TURNS: [&str; 4] = ["messages", "conversations", "prompt", "completion"];
/// Columns of preference pairs.
const PREFERENCES: [&str; 2] = ["chosen", "rejected"];

/// Formats in the order in which they are tried: those whose columns say most come first. Names and order of the fields
/// are those of [`Format::fields`].
const FORMATS: [(Format, &[Field]); 6] = [
    (Format::Messages, &[field("messages", &[]), SYSTEM, TESTS, TOOLS]),
    (
        Format::Sharegpt,
        &[field("conversations", &["conversation"]), SYSTEM, TESTS, TOOLS],
    ),
    (
        Format::Alpaca,
        &[
            field("instruction", &[]),
            optional("input", &[]),
            field("output", &["response"]),
            SYSTEM,
            TESTS,
            TOOLS,
        ],
    ),
    (
        Format::QuestionAnswer,
        &[
            field("question", &["query", "problem"]),
            field("answer", &["response", "solution"]),
            SYSTEM,
            TESTS,
            TOOLS,
        ],
    ),
    (
        Format::PromptCompletion,
        &[
            field("prompt", &[]),
            field("completion", &["response"]),
            SYSTEM,
            TESTS,
            TOOLS,
        ],
    ),
    (Format::Text, &[field("text", &["content"])]),
];

/// Why a record gives no row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is left out and counted under this reason.
    Dropped(&'static str),
    /// It is not what the format promises; the message says what.
    Malformed(String),
}

type RowResult<T> = std::result::Result<T, Refused>;

/// Turns one source's records into rows.
#[derive(Debug)]
pub(crate) struct Normalizer {
    pub(crate) format: Format,
    /// Field → column.
    columns: BTreeMap<&'static str, String>,
}

impl Normalizer {
    /// Fits a format to the columns a file has. The recipe may name the format, or map fields to columns, or both.
    pub(crate) fn detect(
        available: &[String],
        format: Option<Format>,
        map: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        if let Some((field, column)) = map.iter().find(|(_, column)| !available.contains(column)) {
            return Err(format!(
                "`map` takes {field} from column `{column}`, which is not there; columns are {}",
                available.join(", ")
            ));
        }
        let holds = |column: &str| available.iter().any(|found| found == column);
        if format.is_none() && map.is_empty() && PREFERENCES.iter().all(|column| holds(column)) {
            return Err(
                "these are preference pairs (columns `chosen` and `rejected`), and training on preferences is not \
                 there yet; to train on the chosen answers alone, write `format: messages, map: { messages: chosen }` \
                 where they are lists of messages, or `format: prompt-completion, map: { completion: chosen }`"
                    .to_owned(),
            );
        }
        let candidates = FORMATS
            .iter()
            .filter(|(candidate, _)| format.is_none_or(|format| format == *candidate));
        for (candidate, fields) in candidates {
            let unknown = map
                .keys()
                .find(|key| !fields.iter().any(|field| field.name == key.as_str()));
            if let Some(unknown) = unknown {
                if format.is_some() {
                    let names: Vec<_> = fields.iter().map(|field| field.name).collect();
                    return Err(format!(
                        "`map` names the field `{unknown}`; fields of this format are {}",
                        names.join(", ")
                    ));
                }
                continue;
            }
            let column_of = |field: &Field| {
                let named = map.get(field.name).cloned();
                let names = std::iter::once(&field.name).chain(field.aliases);
                named.or_else(|| {
                    names
                        .map(|name| (*name).to_owned())
                        .find(|name| available.contains(name))
                })
            };
            if fields.iter().any(|field| field.required && column_of(field).is_none()) {
                continue;
            }
            let columns = fields
                .iter()
                .filter_map(|field| Some((field.name, column_of(field)?)))
                .collect();
            return Ok(Self {
                format: *candidate,
                columns,
            });
        }
        let wanted = match format {
            Some(format) => FORMATS
                .iter()
                .filter(|(candidate, _)| *candidate == format)
                .flat_map(|(_, fields)| fields.iter().filter(|field| field.required).map(|field| field.name))
                .collect::<Vec<_>>()
                .join(" and "),
            None => "any known format".to_owned(),
        };
        Err(format!(
            "the columns {} do not fit {wanted}; say which holds what, e.g. map: {{ question: COLUMN, answer: COLUMN }}",
            available.join(", ")
        ))
    }

    /// The columns that are read.
    pub(crate) fn columns(&self) -> Vec<String> {
        self.columns.values().cloned().collect()
    }

    /// The keys of a record's turns that nothing reads, such as `messages[].name`.
    pub(crate) fn unread_keys(&self, record: &Record) -> BTreeSet<String> {
        // Only these formats have turns in the texts of a table.
        let in_texts = matches!(self.format, Format::Messages | Format::Sharegpt);
        let columns = TURNS.iter().filter_map(|field| self.columns.get(*field));
        let turns = columns.filter_map(|column| Some((column, record.get(column)?)));
        turns
            .flat_map(|(column, turns)| match parsed(turns) {
                Ok(read) if in_texts => unread_keys(column, &read),
                _ => unread_keys(column, turns),
            })
            .collect()
    }

    /// One record's row.
    pub(crate) fn row(&self, record: &Record) -> RowResult<Row> {
        match self.format {
            Format::Text => {
                let text = self.text(record, "text")?;
                if text.trim().is_empty() {
                    Err(Refused::Dropped("empty_text"))
                } else {
                    Ok(Row::Document(text))
                }
            }
            Format::Alpaca => {
                let mut question = self.text(record, "instruction")?;
                let input = self.text(record, "input")?;
                if !input.trim().is_empty() {
                    question.push_str("\n\n");
                    question.push_str(&input);
                }
                self.exchange(record, question, self.text(record, "output")?)
            }
            Format::QuestionAnswer => {
                let answer = without_calculator_marks(self.text(record, "answer")?);
                self.exchange(record, self.text(record, "question")?, answer)
            }
            Format::PromptCompletion => match (self.value(record, "prompt"), self.value(record, "completion")) {
                // The conversational form: both sides are lists of messages.
                (Some(Value::Array(prompt)), Some(Value::Array(completion))) => {
                    let mut messages = conversation(prompt)?;
                    messages
                        .iter_mut()
                        .filter(|message| message.role == "assistant")
                        .for_each(|answer| answer.train = false);
                    messages.extend(conversation(completion)?);
                    self.chat(record, messages)
                }
                _ => self.exchange(record, self.text(record, "prompt")?, self.text(record, "completion")?),
            },
            Format::Messages | Format::Sharegpt => {
                let name = if self.format == Format::Messages {
                    "messages"
                } else {
                    "conversations"
                };
                let Some(value) = self.value(record, name) else {
                    return Err(Refused::Dropped("missing_field"));
                };
                // A table has no lists: there the turns are JSON in a text.
                let turns = parsed(value).map_err(|error| Refused::Malformed(format!("`{name}`: {error}")))?;
                match turns.as_ref() {
                    Value::Array(turns) => self.chat(record, conversation(turns)?),
                    Value::Null => Err(Refused::Dropped("missing_field")),
                    _ => Err(Refused::Malformed(format!("`{name}` is not a list of messages"))),
                }
            }
        }
    }

    fn exchange(&self, record: &Record, question: String, answer: String) -> RowResult<Row> {
        self.chat(
            record,
            vec![Message::new("user", question), Message::new("assistant", answer)],
        )
    }

    /// Checks a conversation and puts its own system prompt first.
    fn chat(&self, record: &Record, mut messages: Vec<Message>) -> RowResult<Row> {
        let tools = self.value(record, "tools").map_or(Ok(Vec::new()), tools)?;
        let last_answer = messages
            .iter()
            .rposition(Message::is_target)
            .ok_or(Refused::Dropped("no_answer"))?;
        messages.truncate(last_answer + 1);
        // A template would write such a call as it is, and the model would learn to.
        let broken = |message: &Message| message.tool_calls.iter().any(|call| !call.arguments.is_object());
        if messages.iter().any(|message| message.is_target() && broken(message)) {
            return Err(Refused::Dropped("broken_tool_call"));
        }
        if messages
            .iter()
            .any(|message| message.is_target() && message.content.trim().is_empty() && message.tool_calls.is_empty())
        {
            return Err(Refused::Dropped("empty_answer"));
        }
        let asked = messages
            .iter()
            .any(|message| message.role == "user" && !message.content.trim().is_empty());
        if !asked {
            return Err(Refused::Dropped("empty_prompt"));
        }
        let system = self.text(record, "system")?;
        if messages[0].role == "system" {
            // An empty system turn of its own says: none.
            if messages[0].content.trim().is_empty() {
                messages.remove(0);
            }
        } else if !system.trim().is_empty() {
            messages.insert(0, Message::new("system", system));
        }
        Ok(Row::Chat(Dialogue {
            messages,
            tools,
            tests: self.value(record, "tests").filter(|tests| !tests.is_null()).cloned(),
        }))
    }

    fn value<'r>(&self, record: &'r Record, field: &str) -> Option<&'r Value> {
        record.get(self.columns.get(field)?)
    }

    /// A field as text; numbers and booleans are written out, a missing field is empty.
    fn text(&self, record: &Record, field: &str) -> RowResult<String> {
        text_of(self.value(record, field)).map_err(|found| Refused::Malformed(format!("`{field}` {found}")))
    }
}

/// Strips GSM8K's calculator marks (`<<48/2=24>>`) and keeps its `#### 24`; other answers may mean `<<`.
pub(crate) fn without_calculator_marks(answer: String) -> String {
    if !answer.lines().any(|line| line.starts_with("####")) {
        return answer;
    }
    let mut kept = String::with_capacity(answer.len());
    let mut rest = answer.as_str();
    while let Some(start) = rest.find("<<") {
        let Some(length) = rest[start..].find(">>") else {
            break;
        };
        let end = start + length + 2;
        kept.push_str(&rest[..start]);
        if !rest[start..end].contains('=') {
            kept.push_str(&rest[start..end]);
        }
        rest = &rest[end..];
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests;
