//! A chat request's `messages`: roles, text contents, and the parts that are refused by name.

use serde_json::{Map, Value};
use synapse_chat::Message;

use crate::error::ApiError;
use crate::params::{Params, kind_of};

/// Fields that a message may have without meaning anything here.
const WITHOUT_MEANING: [&str; 2] = [
    // Templates of the supported models have no place for a speaker's name.
    "name", // A refusal in an earlier answer has no text of its own.
    "refusal",
];
/// Fields that are refused unless null or empty.
const REFUSED: [(&str, &str); 4] = [
    ("tool_calls", "calling tools is not implemented"),
    ("function_call", "calling tools is not implemented"),
    ("tool_call_id", "calling tools is not implemented"),
    ("audio", "the models read and write text"),
];

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
    let Some(fields) = item.as_object() else {
        return Err(ApiError::field(
            path,
            format!("must be an object, found {}", kind_of(item)),
        ));
    };
    let params = Params::at(fields, path);
    for name in params.names() {
        check_field(fields, name, &params.path_of(name))?;
    }
    let role = params.require("role").and(params.text("role"))?.unwrap_or_default();
    let role = match role {
        "system" | "user" | "assistant" => role,
        // OpenAI's newer word for the same place.
        "developer" => "system",
        "tool" | "function" => {
            let problem = format!("is `{role}`: calling tools is not implemented");
            return Err(ApiError::field(params.path_of("role"), problem).code("unsupported_parameter"));
        }
        other => {
            let problem = format!("must be system, developer, user or assistant, found `{other}`");
            return Err(ApiError::field(params.path_of("role"), problem));
        }
    };
    Ok(Message::new(
        role,
        content(params.require("content")?, &params.path_of("content"))?,
    ))
}

fn check_field(fields: &Map<String, Value>, name: &str, path: &str) -> Result<(), ApiError> {
    if ["role", "content"].contains(&name) || WITHOUT_MEANING.contains(&name) {
        return Ok(());
    }
    let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) else {
        return Err(ApiError::field(path, "is not a known field").code("unknown_parameter"));
    };
    let is_empty = match &fields[name] {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if is_empty {
        Ok(())
    } else {
        Err(ApiError::field(path, format!("is not supported: {reason}")).code("unsupported_parameter"))
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
    let Some(fields) = part.as_object() else {
        return Err(ApiError::field(
            path,
            format!("must be an object, found {}", kind_of(part)),
        ));
    };
    let params = Params::at(fields, path);
    match params.require("type").and(params.text("type"))? {
        Some("text") => Ok(params
            .require("text")
            .and(params.text("text"))?
            .unwrap_or_default()
            .to_owned()),
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
    fn what_is_wrong_is_named_by_its_path() {
        for (messages, path) in [
            (json!(null), "messages"),
            (json!([]), "messages"),
            (json!("hello"), "messages"),
            (json!(["hello"]), "messages[0]"),
            (json!([{ "content": "x" }]), "messages[0].role"),
            (json!([{ "role": 3, "content": "x" }]), "messages[0].role"),
            (json!([{ "role": "robot", "content": "x" }]), "messages[0].role"),
            (json!([{ "role": "tool", "content": "x" }]), "messages[0].role"),
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
                "messages[1].tool_calls",
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
