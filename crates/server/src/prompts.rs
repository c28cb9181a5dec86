//! Texts as the routes for raw text take them: one or several, each as a string or as token ids.

use serde_json::Value;

use crate::error::ApiError;
use crate::params::Params;
use crate::prepare::Prompt;

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

/// Token ids of the field `name`.
pub(crate) fn tokens(items: &[Value], name: &str) -> Result<Vec<u32>, ApiError> {
    let id = |item: &Value| {
        let id = item.as_u64().and_then(|number| u32::try_from(number).ok());
        id.ok_or_else(|| ApiError::field(name, format!("holds {item}, which is no token id")))
    };
    items.iter().map(id).collect()
}
