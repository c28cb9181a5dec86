//! Reading single schemas: where they lead, what they allow, and how that is said in a few words.

use serde_json::Value as Json;

use super::SCHEMA;
use crate::suggest::alternatives;
use crate::yaml::{Node, Value};

/// The definition a schema refers to, or itself.
pub(super) fn follow(schema: &'static Json) -> &'static Json {
    match schema["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'))
    {
        Some(pointer) => SCHEMA.pointer(pointer).map_or(schema, follow),
        None => schema,
    }
}

/// The shape of an optional value when it is present.
pub(super) fn non_null(schema: &'static Json) -> &'static Json {
    let branches = schema["anyOf"].as_array().into_iter().flatten();
    branches
        .into_iter()
        .find(|branch| types_of(branch) != ["null"])
        .unwrap_or(schema)
}

pub(super) fn types_of(schema: &'static Json) -> Vec<&'static str> {
    match &schema["type"] {
        Json::String(kind) => vec![kind.as_str()],
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).collect(),
        // An enumeration of words whose type is left out.
        _ => constants(schema).map(|_| vec!["string"]).unwrap_or_default(),
    }
}

pub(super) fn type_name(node: &Node) -> &'static str {
    match node.value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Integer(_) => "integer",
        Value::Float(_) => "number",
        Value::Text(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) => "object",
    }
}

/// The allowed values of an enumeration.
pub(super) fn constants(schema: &'static Json) -> Option<Vec<&'static Json>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().collect());
    }
    if let Some(branches) = schema["oneOf"].as_array() {
        let words: Option<Vec<_>> = branches.iter().map(constants).collect();
        return words.map(|words| words.into_iter().flatten().collect());
    }
    schema.get("const").map(|word| vec![word])
}

/// What a schema wants, in a few words.
pub(super) fn expected(schema: &'static Json) -> String {
    if let Some(words) = constants(schema) {
        let texts: Vec<String> = words.iter().map(|word| plain(word)).collect();
        return alternatives(texts.iter().map(String::as_str));
    }
    let words = types_of(schema)
        .into_iter()
        .filter(|kind| *kind != "null")
        .map(|kind| match kind {
            "boolean" => "true or false",
            "integer" => "a whole number",
            "number" => "a number",
            "string" => "a text",
            "array" => "a list",
            "object" => "a mapping",
            other => other,
        });
    words.collect::<Vec<_>>().join(" or ")
}

/// Why a value has the wrong type, where that is easily said.
pub(super) fn mistyped_hint(node: &Node, types: &[&str]) -> Option<String> {
    let wants = |kind: &str| types.contains(&kind);
    match &node.value {
        Value::Null => Some("remove the key, or give it a value".to_owned()),
        Value::Text(text) if wants("boolean") && ["yes", "no", "on", "off"].contains(&text.to_lowercase().as_str()) => {
            Some("write true or false; YAML 1.2 reads yes, no, on and off as text".to_owned())
        }
        Value::Text(text) if (wants("integer") || wants("number")) && text.parse::<f64>().is_ok() => {
            Some("remove the quotes".to_owned())
        }
        Value::Text(text)
            if (wants("integer") || wants("number")) && text.replace(['_', ','], "").parse::<f64>().is_ok() =>
        {
            Some(format!("write {}", text.replace(['_', ','], "")))
        }
        Value::Float(value) if wants("integer") && value.fract() == 0.0 => Some(format!("write {value:.0}")),
        Value::Map(_) if wants("array") => Some("start each item with `- `".to_owned()),
        _ => None,
    }
}

/// The description of a key, as a hint.
pub(super) fn explain(outer: &'static Json, schema: &'static Json) -> Option<String> {
    let text = outer["description"]
        .as_str()
        .or_else(|| schema["description"].as_str())?;
    let text = text.trim_end_matches('.').replace('\n', " ");
    let mut letters = text.chars();
    let first = letters.next()?;
    let second_is_lower = letters.clone().next().is_none_or(|letter| !letter.is_uppercase());
    Some(if second_is_lower {
        first.to_lowercase().chain(letters).collect()
    } else {
        text.clone()
    })
}

pub(super) fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
