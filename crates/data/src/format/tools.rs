//! Tools and calls as data files write them: OpenAI's objects, bare ones, or either as JSON in a text.

use std::borrow::Cow;

use serde_json::{Map, Value};
use synapse_tokenizer::ToolCall;

use super::{Refused, RowResult};
use crate::read::parse_json;

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
pub(super) fn calls(value: &Value) -> RowResult<Vec<ToolCall>> {
    // A model wrote this text, and not every one of its calls was JSON.
    let read = parsed(value).map_err(|error| match value {
        Value::String(text) if is_json(text) => Refused::Malformed(format!("`tool_calls`: {error}")),
        _ => Refused::Dropped("broken_tool_call"),
    })?;
    match read.as_ref() {
        Value::Null => Ok(Vec::new()),
        Value::Array(calls) => calls.iter().map(call).collect(),
        one => call(one).map(|call| vec![call]),
    }
}

/// `{"id", "type", "function": {"name", "arguments"}}`, or what stands under `function` by itself.
fn call(value: &Value) -> RowResult<ToolCall> {
    let malformed = |what: &str| Refused::Malformed(what.to_owned());
    let outer = value.as_object().ok_or_else(|| malformed("a tool call is no object"))?;
    let function = outer.get("function").and_then(Value::as_object).unwrap_or(outer);
    let name = function.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| malformed("a tool call has no `name`"))?.to_owned();
    let id = outer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let arguments = ["arguments", "parameters"].iter().find_map(|key| function.get(*key));
    let arguments = match arguments {
        None => Value::Object(Map::new()),
        Some(written) => {
            arguments_of(written).map_err(|error| Refused::Malformed(format!("the arguments of `{name}`: {error}")))?
        }
    };
    Ok(ToolCall { id, name, arguments })
}

/// The arguments of a call. Some files keep them as text, as they come over the wire; templates write objects. What is
/// no object stays as it is, for `transformers` hands it to the template like that: an agent's trace has the call that
/// failed, and what came of it.
fn arguments_of(written: &Value) -> Result<Value, String> {
    match (parsed(written), written) {
        (Ok(arguments), _) if arguments.is_null() => Ok(Value::Object(Map::new())),
        (Ok(arguments), _) if arguments.is_object() => Ok(arguments.into_owned()),
        (Err(error), Value::String(text)) if is_json(text) => Err(error),
        _ => Ok(written.clone()),
    }
}

/// Whether a text that was refused is JSON, but with a literal that cannot be kept.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The value, read from JSON where it is a text; an empty text is nothing.
pub(super) fn parsed(value: &Value) -> Result<Cow<'_, Value>, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Ok(Cow::Owned(Value::Null)),
        Value::String(text) => parse_json(text).map(Cow::Owned),
        value => Ok(Cow::Borrowed(value)),
    }
}
