//! Reads prompts: one or several texts, each as a string or as token ids, or a text or conversation.

use std::sync::Arc;

use serde_json::{Map, Value};
use synapse_engine::Engine;

use crate::encoding::{Conversation, Prompt};
use crate::error::ApiError;
use crate::params::Params;
use crate::{messages, tools};

/// Reads the field `name`, which holds at least one text.
pub(crate) fn read(params: Params<'_>, name: &str) -> Result<Vec<Prompt>, ApiError> {
    let value = params.require(name)?;
    let wrong = || {
        let expected = "must be a string, an array of strings, or an array of token ids";
        params.mismatch(name, expected, value)
    };
    match value {
        Value::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(items) if items.is_empty() => Err(ApiError::field(name, "must not be empty")),
        Value::Array(items) if items.iter().all(Value::is_number) => Ok(vec![Prompt::Tokens(tokens(items, name)?)]),
        Value::Array(items) => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(ids) => Ok(Prompt::Tokens(tokens(ids, name)?)),
                _ => Err(wrong()),
            })
            .collect(),
        _ => Err(wrong()),
    }
}

/// A text or a conversation, and the field that it came in.
pub(crate) fn text_or_conversation(params: Params<'_>, engine: &Engine) -> Result<(Prompt, &'static str), ApiError> {
    let conversation = params.get("messages").is_some();
    match params.text("prompt")? {
        Some(_) if conversation => Err(ApiError::field("prompt", "cannot be given beside `messages`")),
        Some(text) => match ["tools", TEMPLATE_ARGUMENTS]
            .into_iter()
            .find(|name| params.get(name).is_some())
        {
            None => Ok((Prompt::Text(text.to_owned()), "prompt")),
            Some(name) => Err(ApiError::field(name, "is only allowed with `messages`")),
        },
        None if conversation => {
            let conversation = Conversation {
                messages: messages::read(params)?,
                tools: tools::definitions(params)?,
                template_arguments: template_arguments(params, engine)?,
            };
            Ok((Prompt::Chat(Arc::new(conversation)), "messages"))
        }
        None => Err(ApiError::field("prompt", "or `messages` is required")),
    }
}

/// vLLM's name of the field for variables of the chat template.
pub(crate) const TEMPLATE_ARGUMENTS: &str = "chat_template_kwargs";

/// Arguments that clients send to every model: where the template does not read them, there is nothing to turn off.
const WELL_KNOWN: [&str; 2] = ["enable_thinking", "thinking"];

/// The variables of the chat template that a request sets.
pub(crate) fn template_arguments(params: Params<'_>, engine: &Engine) -> Result<Map<String, Value>, ApiError> {
    let mut arguments = params.object(TEMPLATE_ARGUMENTS)?.cloned().unwrap_or_default();
    arguments.retain(|name, value| {
        let is_off = WELL_KNOWN.contains(&name.as_str()) && *value != Value::Bool(true);
        !is_off || engine.chat().takes_template_argument(name)
    });
    Ok(arguments)
}

/// Token ids of the field `name`.
pub(crate) fn tokens(items: &[Value], name: &str) -> Result<Vec<u32>, ApiError> {
    let id = |item: &Value| {
        let id = item.as_u64().and_then(|number| u32::try_from(number).ok());
        id.ok_or_else(|| ApiError::field(name, format!("holds `{item}`, which is not a token id")))
    };
    items.iter().map(id).collect()
}
