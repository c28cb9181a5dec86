//! Prepares a client's JSON Schema for llguidance: what typed clients generate is followed, what cannot be kept is refused
//! by the place of its keyword.
//!
//! - An object that names properties has no others, unless its schema asks for more (`additionalProperties`,
//!   `unevaluatedProperties`, `patternProperties`, more `minProperties` than names). JSON Schema admits any others, and a
//!   model that is allowed to invent properties does not stop. An object without named properties stays free. In the same
//!   way an array with `prefixItems` has these items.
//! - Keywords that only describe are left out: `title`, `default`, `examples`, `discriminator`, unknown formats, unknown
//!   keywords. Keywords that constrain and cannot be followed are errors.
//! - References are resolved here, with `~0`, `~1`, percent escapes, `$anchor` and `$id`, within the schema only.
//!
//! Every answer that the prepared schema admits is valid under the client's schema, except that of a `oneOf` more than one
//! may match, and that formats unknown here are not checked.

mod array;
mod closing;
mod keywords;
mod members;
mod number;
mod property_names;
mod reference;
mod rewrite;
mod text;

pub(crate) use rewrite::prepare;

use serde_json::{Map, Value};

/// What is wrong with a schema, with the place as a JSON pointer.
pub(crate) type SchemaResult<T> = Result<T, String>;

/// A field of a schema that is not null; clients write null for what they leave out.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null() || name == "const")
}

/// The place of a part of a schema.
fn place(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// An error at a place; `problem` continues the sentence that the place begins.
fn at<T>(path: &str, problem: impl std::fmt::Display) -> SchemaResult<T> {
    Err(format!("`{path}` {problem}"))
}

/// Steps that one text costs: a long one is copied with every place that it is part of.
fn text_cost(text: &str) -> usize {
    1 + text.len() / 64
}

/// Steps that copying a value costs.
fn cost(value: &Value) -> usize {
    match value {
        Value::String(text) => text_cost(text),
        Value::Array(items) => 1 + items.iter().map(cost).sum::<usize>(),
        Value::Object(fields) => 1 + fields_cost(fields),
        _ => 1,
    }
}

fn fields_cost(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(name, value)| text_cost(name) + cost(value)).sum()
}

/// Whether a schema applies others to the same value.
fn applies_others(fields: &Map<String, Value>) -> bool {
    ["allOf", "anyOf", "oneOf", "$ref"]
        .iter()
        .any(|name| field(fields, name).is_some())
}
