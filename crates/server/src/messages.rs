//! A chat request's `messages`: roles, text contents, and the parts that are refused by name.

mod tool_calls;

use serde_json::Value;
use synapse_tokenizer::Message;

use crate::error::ApiError;
use crate::params::{Params, kind_of};

use tool_calls::tool_calls;
pub(crate) use tool_calls::with_broken_arguments;

/// Fields of any message that are accepted and ignored: the templates of the supported models do not use a speaker's name.
const IGNORED: [&str; 1] = ["name"];
/// Fields of an earlier answer, as clients send it back, that repeat its content or only describe it.
const IGNORED_OF_ANSWERS: [&str; 6] = [
    // openai-python's `parse` adds what it read from `content`.
    "parsed",
    // Places in the content that came from a search.
    "annotations",
    // Added by LiteLLM and LangChain.
    "provider_specific_fields",
    "response_metadata",
    "usage_metadata",
    // Read below where there is no content.
    "refusal",
];
/// Fields that are refused unless null or empty.
const REFUSED: [(&str, &str); 2] = [
    ("function_call", "the older form of `tool_calls`, which replaced it"),
    ("audio", "the models read and write text"),
];
/// What an earlier answer thought, as vLLM calls it and as DeepSeek did first. The templates of models that think decide
/// which of it is shown; others have no place for it.
const THOUGHTS: [&str; 2] = ["reasoning_content", "reasoning"];

/// Reads the conversation.
pub(crate) fn read(params: Params<'_>) -> Result<Vec<Message>, ApiError> {
    let value = params.require("messages")?;
    let Some(items) = value.as_array() else {
        return Err(params.mismatch("messages", "must be an array", value));
    };
    if items.is_empty() {
        return Err(ApiError::field("messages", "must hold at least one message"));
    }
    items
        .iter()
        .enumerate()
        .map(|(index, item)| message(item, &format!("messages[{index}]")))
        .collect()
}

fn message(item: &Value, path: &str) -> Result<Message, ApiError> {
    let params = Params::of(item, path)?;
    let role = params.require("role").and(params.text("role"))?.unwrap_or_default();
    let role = match role {
        "system" | "user" | "assistant" | "tool" => role,
        // OpenAI's newer name for the same role.
        "developer" => "system",
        "function" => {
            let problem = "is `function`, the older form of `tool`, which replaced it";
            return Err(ApiError::field(params.path_of("role"), problem).code("unsupported_parameter"));
        }
        other => {
            let problem = format!("must be system, developer, user, assistant or tool, found `{other}`");
            return Err(ApiError::field(params.path_of("role"), problem));
        }
    };
    for name in params.names() {
        check_field(params, name, role)?;
    }
    let tool_calls = match role {
        "assistant" => tool_calls(params)?,
        _ => Vec::new(),
    };
    let text = match params.get("content") {
        // An earlier answer may have tool calls, a refusal, or nothing instead of content.
        None if role == "assistant" => params.text("refusal")?.unwrap_or_default().to_owned(),
        _ => content(params.require("content")?, &params.path_of("content"))?,
    };
    let tool_call_id = match role {
        "tool" => params.require("tool_call_id").and(params.text("tool_call_id"))?,
        _ => None,
    };
    let mut thoughts = None;
    for name in THOUGHTS.into_iter().filter(|_| role == "assistant") {
        thoughts = thoughts.or(params.text(name)?.filter(|text| !text.is_empty()));
    }
    Ok(Message {
        reasoning_content: thoughts.map(str::to_owned),
        tool_calls,
        tool_call_id: tool_call_id.map(str::to_owned),
        ..Message::new(role, text)
    })
}

fn check_field(params: Params<'_>, name: &str, role: &str) -> Result<(), ApiError> {
    let path = params.path_of(name);
    let reason = match name {
        "role" | "content" => return Ok(()),
        "tool_calls" if role == "assistant" => return Ok(()),
        name if role == "assistant" && THOUGHTS.contains(&name) => return Ok(()),
        "tool_call_id" if role == "tool" => return Ok(()),
        name if IGNORED.contains(&name) => return Ok(()),
        name if role == "assistant" && IGNORED_OF_ANSWERS.contains(&name) => return Ok(()),
        // lm-eval and clients of the Responses API say what kind of item a message is.
        "type" => return check_type(params),
        "tool_calls" => "only the assistant calls tools",
        "tool_call_id" => "only a tool's message is the result of a call",
        name => match REFUSED.iter().find(|(refused, _)| *refused == name) {
            Some((_, reason)) => reason,
            // Clients write null for fields that they know and we do not.
            None if params.get(name).is_none() => return Ok(()),
            None => return Err(ApiError::field(path, "is not a known field").code("unknown_parameter")),
        },
    };
    let is_empty = match params.get(name) {
        None => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    };
    if is_empty {
        Ok(())
    } else {
        Err(ApiError::field(path, format!("is not supported: {reason}")).code("unsupported_parameter"))
    }
}

fn check_type(params: Params<'_>) -> Result<(), ApiError> {
    match params.text("type")? {
        None | Some("text" | "message") => Ok(()),
        Some(other) => {
            let problem = format!("may only be `message` or `text`, found `{other}`");
            Err(ApiError::field(params.path_of("type"), problem).code("unsupported_parameter"))
        }
    }
}

/// A string, or an array of text parts.
fn content(value: &Value, path: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .enumerate()
            .map(|(index, part)| text_part(part, &format!("{path}[{index}]")))
            .collect(),
        other => Err(ApiError::field(
            path,
            format!("must be a string or an array of parts, found {}", kind_of(other)),
        )),
    }
}

fn text_part(part: &Value, path: &str) -> Result<String, ApiError> {
    let params = Params::of(part, path)?;
    match params.require("type").and(params.text("type"))? {
        // An earlier answer of another server may be a refusal.
        Some(kind @ ("text" | "refusal")) => {
            let text = params.require(kind).and(params.text(kind))?;
            Ok(text.unwrap_or_default().to_owned())
        }
        other => {
            let problem = format!(
                "may only be `text`, found `{}`: the models read text",
                other.unwrap_or_default()
            );
            Err(ApiError::field(params.path_of("type"), problem).code("unsupported_parameter"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn run(messages: &Value) -> Result<Vec<(String, String)>, Option<String>> {
        let body = json!({ "messages": messages });
        let read = read(Params::new(body.as_object().unwrap()));
        read.map(|list| list.into_iter().map(|m| (m.role, m.content)).collect())
            .map_err(|error| error.param)
    }

    #[test]
    fn roles_and_contents_are_read() {
        let found = run(&json!([
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }], "name": "Ada" },
            { "role": "assistant", "content": "c", "refusal": null, "tool_calls": [], "audio": null },
        ]));
        let expected = [("system", "Be brief."), ("user", "ab"), ("assistant", "c")];
        assert_eq!(
            found.unwrap(),
            expected.map(|(role, content)| (role.to_owned(), content.to_owned()))
        );
    }

    #[test]
    fn calls_and_results_are_read() {
        let call = json!({ "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"x\": 1}" } });
        let body = json!({ "messages": [
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": [{ "type": "text", "text": "1" }] },
        ] });
        let found = read(Params::new(body.as_object().unwrap())).unwrap();
        assert_eq!(found[0].content, "");
        let call = &found[0].tool_calls[0];
        assert_eq!(
            (call.id.as_str(), call.name.as_str(), &call.arguments),
            ("c1", "f", &json!({ "x": 1 }))
        );
        assert_eq!(
            (found[1].tool_call_id.as_deref(), found[1].content.as_str()),
            (Some("c1"), "1")
        );
    }

    /// What openai-python 2's `completion.choices[0].message.model_dump()` gives after `chat.completions.parse`, LiteLLM's
    /// `Message.model_dump()`, and lm-eval's messages.
    #[test]
    fn what_clients_send_back_is_accepted() {
        let call = json!({
            "id": "c1", "type": "function", "index": 0,
            "function": { "name": "f", "arguments": "{\"x\": 1}", "parsed_arguments": { "x": 1 } },
        });
        let found = run(&json!([
            { "role": "user", "content": "a", "type": "text" },
            {
                "content": "{\"x\":1}", "refusal": null, "role": "assistant", "annotations": [], "audio": null,
                "function_call": null, "tool_calls": null, "parsed": { "x": 1 },
            },
            {
                "content": null, "refusal": null, "role": "assistant", "annotations": null, "audio": null,
                "function_call": null, "tool_calls": [call], "parsed": null, "provider_specific_fields": {},
                "reasoning_content": null, "thinking_blocks": null,
            },
            { "role": "tool", "tool_call_id": "c1", "content": "b" },
            { "role": "assistant", "content": null, "tool_calls": [] },
            { "role": "assistant" },
            { "role": "assistant", "content": null, "refusal": "No." },
            { "role": "assistant", "content": [{ "type": "refusal", "refusal": "No!" }] },
        ]));
        let texts: Vec<String> = found.unwrap().into_iter().map(|(_, content)| content).collect();
        assert_eq!(texts, ["a", "{\"x\":1}", "", "b", "", "", "No.", "No!"]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (messages, path) in [
            (json!(null), "messages"),
            (json!([]), "messages"),
            (json!("hello"), "messages"),
            (json!(["hello"]), "messages[0]"),
            (json!([{ "content": "x" }]), "messages[0].role"),
            (json!([{ "role": 3, "content": "x" }]), "messages[0].role"),
            (json!([{ "role": "robot", "content": "x" }]), "messages[0].role"),
            (json!([{ "role": "function", "content": "x" }]), "messages[0].role"),
            (json!([{ "role": "tool", "content": "x" }]), "messages[0].tool_call_id"),
            (
                json!([{ "role": "user", "content": "x", "tool_call_id": "y" }]),
                "messages[0].tool_call_id",
            ),
            (json!([{ "role": "user" }]), "messages[0].content"),
            (json!([{ "role": "user", "content": 3 }]), "messages[0].content"),
            (json!([{ "role": "user", "content": ["x"] }]), "messages[0].content[0]"),
            (
                json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }]),
                "messages[0].content[0].type",
            ),
            (
                json!([{ "role": "user", "content": [{ "type": "text" }] }]),
                "messages[0].content[0].text",
            ),
            (
                json!([{ "role": "user", "content": "x" }, { "role": "assistant", "content": "y", "tool_calls": [{}] }]),
                "messages[1].tool_calls[0].function",
            ),
            (
                json!([{ "role": "user", "content": "x", "tool_calls": [{}] }]),
                "messages[0].tool_calls",
            ),
            (
                json!([{ "role": "assistant", "tool_calls": [{ "id": "a", "function": { "name": "f", "arguments": [1] } }] }]),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                json!([{ "role": "assistant", "content": "x", "reasoning_content": ["y"] }]),
                "messages[0].reasoning_content",
            ),
            (
                json!([{ "role": "user", "content": "x", "parsed": {} }]),
                "messages[0].parsed",
            ),
            (
                json!([{ "role": "user", "content": "x", "type": "image" }]),
                "messages[0].type",
            ),
            (
                json!([{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "{}" } }] }]),
                "messages[0].tool_calls[0].id",
            ),
            (
                json!([{ "role": "user", "content": "x", "contents": "y" }]),
                "messages[0].contents",
            ),
        ] {
            assert_eq!(run(&messages).unwrap_err().as_deref(), Some(path), "{messages}");
        }
    }
}
