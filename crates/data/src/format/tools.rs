//! Tools and calls as data files write them: OpenAI's objects, bare ones, or either as JSON in a text.

use std::borrow::Cow;

use serde_json::{Map, Value};
use synapse_tokenizer::ToolCall;

use super::{Refused, RowResult};

/// The `tools` of a row: a list of descriptions, each rendered as it is written.
pub(super) fn tools(value: &Value) -> RowResult<Vec<Value>> {
    let malformed = |what: &str| Refused::Malformed(format!("`tools` {what}"));
    match parsed(value).map_err(|error| malformed(&error))?.into_owned() {
        Value::Null => Ok(Vec::new()),
        Value::Array(tools) if tools.iter().all(Value::is_object) => Ok(tools),
        Value::Array(_) => Err(malformed("holds something else than objects")),
        _ => Err(malformed("is not a list")),
    }
}

/// The calls of a turn: a list of them, or a single one.
pub(super) fn calls(value: &Value) -> Result<Vec<ToolCall>, String> {
    match parsed(value)
        .map_err(|error| format!("its tool calls: {error}"))?
        .as_ref()
    {
        Value::Null => Ok(Vec::new()),
        Value::Array(calls) => calls.iter().map(call).collect(),
        one => call(one).map(|call| vec![call]),
    }
}

/// `{"id", "type", "function": {"name", "arguments"}}`, or what stands under `function` by itself.
fn call(value: &Value) -> Result<ToolCall, String> {
    let outer = value.as_object().ok_or("a tool call is no object")?;
    let function = outer.get("function").and_then(Value::as_object).unwrap_or(outer);
    let name = function.get("name").and_then(Value::as_str);
    let name = name.ok_or("a tool call has no `name`")?.to_owned();
    // Some files keep the arguments as text, as they come over the wire; templates write objects.
    let arguments = match function.get("arguments").or_else(|| function.get("parameters")) {
        None => Value::Object(Map::new()),
        Some(arguments) => parsed(arguments)
            .map_err(|error| format!("the arguments of `{name}`: {error}"))?
            .into_owned(),
    };
    let arguments = match arguments {
        Value::Null => Value::Object(Map::new()),
        arguments @ Value::Object(_) => arguments,
        _ => return Err(format!("the arguments of `{name}` are no object")),
    };
    let id = outer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(ToolCall { id, name, arguments })
}

/// The value, read from JSON where it is a text; an empty text is nothing.
fn parsed(value: &Value) -> Result<Cow<'_, Value>, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(Cow::Owned(Value::Null)),
        Value::String(text) => serde_json::from_str(text)
            .map(Cow::Owned)
            .map_err(|error| format!("not valid JSON: {error}")),
        value => Ok(Cow::Borrowed(value)),
    }
}
