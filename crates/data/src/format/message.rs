//! Messages as data files write them: {role, content} or {from, value}, with texts or lists of parts, and with the word
//! that says whether an answer is learned.

use serde_json::Value;
use synapse_tokenizer::Message;

use super::tools::calls;
use super::{Refused, RowResult};

/// The keys of a turn that are read.
const KEYS: [&str; 9] = [
    "role",
    "from",
    "content",
    "value",
    "tool_calls",
    "function_call",
    "tool_call_id",
    "train",
    "weight",
];

/// The keys of turns that hold something and are not read, each with its column: `messages[].name`.
pub(super) fn unread_keys(column: &str, turns: &Value) -> Vec<String> {
    let turns = turns.as_array().into_iter().flatten().filter_map(Value::as_object);
    let unread = turns
        .flatten()
        .filter(|(key, value)| !KEYS.contains(&key.as_str()) && !value.is_null());
    unread.map(|(key, _)| format!("{column}[].{key}")).collect()
}

/// The text of a message: a text, or a list of parts that are all texts.
fn content_of(value: Option<&Value>) -> Result<String, String> {
    let Some(Value::Array(parts)) = value else {
        return text_of(value);
    };
    let text = |part: &Value| match part.get("type").and_then(Value::as_str) {
        Some("text") => text_of(part.get("text")),
        Some(other) => Err(format!("has a part of type `{other}`; only texts are trained on")),
        None => Err("is a list where text was expected".to_owned()),
    };
    parts.iter().map(text).collect()
}

pub(super) fn text_of(value: Option<&Value>) -> Result<String, String> {
    match value {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(Value::Array(_)) => Err("is a list where text was expected".to_owned()),
        Some(Value::Object(_)) => Err("is an object where text was expected".to_owned()),
    }
}

/// Turns written as {role, content} or {from, value}, with `train` or `weight` saying which are learned.
pub(super) fn conversation(turns: &[Value]) -> RowResult<Vec<Message>> {
    turns
        .iter()
        .enumerate()
        .map(|(index, turn)| message(turn, index))
        .collect()
}

fn message(turn: &Value, index: usize) -> RowResult<Message> {
    let malformed = |what: String| Refused::Malformed(format!("message {index}: {what}"));
    let refused = |refused: Refused| match refused {
        Refused::Malformed(what) => malformed(what),
        dropped @ Refused::Dropped(_) => dropped,
    };
    let Value::Object(turn) = turn else {
        return Err(malformed("not an object".to_owned()));
    };
    // A null is an absence here too: rows of several origins have all keys, most of them empty.
    let get = |keys: [&str; 2]| {
        keys.iter()
            .find_map(|key| turn.get(*key).filter(|value| !value.is_null()))
    };
    let role = get(["role", "from"]).and_then(Value::as_str);
    let written = role.ok_or_else(|| malformed("has no `role` (or `from`)".to_owned()))?;
    let role = match written {
        "system" | "developer" => "system",
        "user" | "human" => "user",
        "assistant" | "gpt" | "chatgpt" | "model" | "bot" | "function_call" => "assistant",
        "tool" | "function" | "observation" | "ipython" => "tool",
        _ => return Err(Refused::Dropped("unsupported_role")),
    };
    let content = get(["content", "value"]);
    let mut message = if written == "function_call" {
        // ShareGPT's way: the turn's whole text is the call, or a list of them.
        let mut message = Message::new(role, "");
        message.tool_calls = calls(content.unwrap_or(&Value::Null)).map_err(refused)?;
        message
    } else {
        let content = content_of(content).map_err(|found| malformed(format!("`content` {found}")))?;
        let mut message = Message::new(role, content);
        // `function_call` is OpenAI's older spelling of a single one.
        let called = get(["tool_calls", "function_call"]);
        message.tool_calls = calls(called.unwrap_or(&Value::Null)).map_err(refused)?;
        message
    };
    if role != "assistant" && !message.tool_calls.is_empty() {
        return Err(malformed(format!("the role `{written}` cannot call tools")));
    }
    message.tool_call_id = turn.get("tool_call_id").and_then(Value::as_str).map(str::to_owned);
    let train = match get(["train", "weight"]) {
        None => true,
        Some(Value::Bool(train)) => *train,
        Some(Value::Number(weight)) if weight.as_f64() == Some(0.0) => false,
        Some(Value::Number(weight)) if weight.as_f64() == Some(1.0) => true,
        Some(other) => return Err(malformed(format!("`weight` must be 0 or 1 and is {other}"))),
    };
    // Only answers are ever learned, so only they say so.
    message.train = train || role != "assistant";
    Ok(message)
}
