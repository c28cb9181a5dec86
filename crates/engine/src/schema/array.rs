//! The items of an array, in the spelling of JSON Schema 2020-12.

use serde_json::{Map, Value, json};

use super::keywords::count;
use super::{SchemaResult, applies_others, at, field, place};

/// Schemas of items, with the keywords they stand under.
pub(super) struct Items<'a> {
    pub(super) prefix: Option<(&'static str, &'a [Value])>,
    pub(super) rest: Option<(&'static str, &'a Value)>,
}

impl<'a> Items<'a> {
    /// Up to draft 2019-09 `items` may be an array, and `additionalItems` are the rest.
    pub(super) fn of(fields: &'a Map<String, Value>, path: &str) -> SchemaResult<Self> {
        let prefix = field(fields, "prefixItems").and_then(Value::as_array);
        match field(fields, "items") {
            Some(Value::Array(_)) if prefix.is_some() => {
                at(&place(path, "items"), "must be one schema beside `prefixItems`")
            }
            Some(Value::Array(items)) => Ok(Self {
                prefix: Some(("items", items)),
                rest: field(fields, "additionalItems").map(|rest| ("additionalItems", rest)),
            }),
            rest => Ok(Self {
                prefix: prefix.map(|items| ("prefixItems", items.as_slice())),
                rest: rest.map(|rest| ("items", rest)),
            }),
        }
    }
}

/// Gives an array of named items these items and no others, unless its schema says how many it has or allows more.
/// `written` is the array's schema so far, `whole` whether no other schema applies to the same array.
pub(super) fn close(
    written: &mut Map<String, Value>,
    fields: &Map<String, Value>,
    items: &Items<'_>,
    path: &str,
    whole: bool,
) -> SchemaResult<()> {
    let alone = whole && !applies_others(fields);
    let named = items.prefix.map_or(0, |(_, prefix)| prefix.len()) as u64;
    let least = field(fields, "minItems").and_then(count);
    match field(fields, "unevaluatedItems") {
        Some(Value::Bool(true)) => return Ok(()),
        Some(Value::Bool(false)) if alone || items.rest.is_some() => {
            written.entry("items").or_insert(Value::Bool(false));
        }
        Some(_) => return at(&place(path, "unevaluatedItems"), "is not supported here: use `items`"),
        None => {}
    }
    if named == 0 || !alone {
        return Ok(());
    }
    if items.rest.is_none() && least.is_none_or(|least| least <= named) {
        written.entry("items").or_insert(Value::Bool(false));
    }
    if least.is_none() {
        let most = field(fields, "maxItems").and_then(count).unwrap_or(named);
        written.insert("minItems".into(), json!(named.min(most)));
    }
    Ok(())
}
