//! The tool calls of an earlier answer, as clients send them back.

use serde_json::{Map, Value};
use synapse_tokenizer::{Message, ToolCall};

use crate::error::ApiError;
use crate::params::Params;

/// The tool calls of an earlier answer, in this server's own format.
pub(super) fn tool_calls(params: Params<'_>) -> Result<Vec<ToolCall>, ApiError> {
    let path = params.path_of("tool_calls");
    let items = params.array("tool_calls")?.unwrap_or_default();
    items
        .iter()
        .enumerate()
        .map(|(index, item)| tool_call(item, &format!("{path}[{index}]")))
        .collect()
}

fn tool_call(item: &Value, path: &str) -> Result<ToolCall, ApiError> {
    let call = Params::of(item, path)?;
    call.only(&["id", "type", "function", "index"])?;
    if !matches!(call.text("type")?, None | Some("function")) {
        return Err(ApiError::field(call.path_of("type"), "may only be `function`").code("unsupported_parameter"));
    }
    let path = call.path_of("function");
    let function = Params::of(call.require("function")?, &path)?;
    // openai-python's `parse` adds the arguments that it read.
    function.only(&["name", "arguments", "parsed_arguments"])?;
    let text = |params: Params<'_>, name: &str| -> Result<String, ApiError> {
        Ok(params
            .require(name)
            .and(params.text(name))?
            .unwrap_or_default()
            .to_owned())
    };
    Ok(ToolCall {
        id: text(call, "id")?,
        name: text(function, "name")?,
        arguments: arguments(function)?,
    })
}

/// The arguments of an earlier call: the object that the string holds, or the object itself.
///
/// A model may have written arguments that are no JSON object. They are shown to it as it wrote them, in a string, so that
/// the conversation about the mistake can go on.
fn arguments(function: Params<'_>) -> Result<Value, ApiError> {
    match function.require("arguments")? {
        Value::String(text) if text.trim().is_empty() => Ok(Value::Object(Map::new())),
        Value::String(text) => {
            Ok(serde_json::from_str::<Map<String, Value>>(text)
                .map_or_else(|_| Value::from(text.as_str()), Value::from))
        }
        object @ Value::Object(_) => Ok(object.clone()),
        other => Err(function.mismatch("arguments", "must be a JSON object in a string", other)),
    }
}

/// The first message with a call whose arguments are no JSON object.
pub(crate) fn with_broken_arguments(messages: &[Message]) -> Option<usize> {
    let is_broken = |call: &ToolCall| !call.arguments.is_object();
    messages
        .iter()
        .position(|message| message.tool_calls.iter().any(is_broken))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::messages;

    #[test]
    fn arguments_are_an_object_or_what_the_model_wrote() {
        let read = |arguments: Value| {
            let call = json!({ "id": "c", "function": { "name": "f", "arguments": arguments } });
            let body = json!({ "messages": [{ "role": "user", "content": "" }, { "role": "assistant", "tool_calls": [call] }] });
            let messages = messages::read(Params::new(body.as_object().unwrap())).unwrap();
            (
                messages[1].tool_calls[0].arguments.clone(),
                with_broken_arguments(&messages),
            )
        };
        for whole in ["{\"x\": 1}", " {\"x\":1}\n"] {
            assert_eq!(read(json!(whole)), (json!({ "x": 1 }), None));
        }
        assert_eq!(read(json!({ "x": 1 })), (json!({ "x": 1 }), None));
        assert_eq!(read(json!("")), (json!({}), None));
        for broken in ["{\"x\": ", "[1]", "none"] {
            assert_eq!(read(json!(broken)), (json!(broken), Some(1)));
        }
    }
}
