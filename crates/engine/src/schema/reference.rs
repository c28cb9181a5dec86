//! Finds what `$ref` refers to, within the schema only: nothing is fetched.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{SchemaResult, field, place};

/// Steps of resolving and rewriting that one schema may take; each name of a property that is looked at, and each 64 bytes
/// of what is copied, is one. Those of pydantic and zod take hundreds.
const MAX_STEPS: usize = 1_000_000;

/// A schema with the places that references may name.
pub(super) struct Document<'a> {
    root: &'a Value,
    /// `$id` and `$anchor` values, with the place and the schema.
    named: BTreeMap<&'a str, (String, &'a Value)>,
    steps: Cell<usize>,
}

impl<'a> Document<'a> {
    /// # Errors
    /// The schema is too large.
    pub(super) fn new(root: &'a Value) -> SchemaResult<Self> {
        let mut document = Self {
            root,
            named: BTreeMap::new(),
            steps: Cell::new(0),
        };
        let mut open = vec![("#".to_owned(), root)];
        while let Some((path, value)) = open.pop() {
            let parts = match value {
                Value::Object(fields) => fields.len(),
                Value::Array(items) => items.len(),
                _ => 0,
            };
            document.steps(1 + parts.saturating_mul(path.len() / 64))?;
            match value {
                Value::Object(fields) => {
                    for key in ["$id", "id", "$anchor"] {
                        if let Some(name) = fields.get(key).and_then(Value::as_str) {
                            document.named.entry(name).or_insert_with(|| (path.clone(), value));
                        }
                    }
                    open.extend(fields.iter().map(|(key, value)| (place(&path, key), value)));
                }
                Value::Array(items) => {
                    let items = items.iter().enumerate();
                    open.extend(items.map(|(index, item)| (place(&path, &index.to_string()), item)));
                }
                _ => {}
            }
        }
        Ok(document)
    }

    /// Counts work, so that a schema of many references to each other cannot take forever.
    pub(super) fn step(&self) -> SchemaResult<()> {
        self.steps(1)
    }

    /// Counts several steps.
    pub(super) fn steps(&self, count: usize) -> SchemaResult<()> {
        self.steps.set(self.steps.get().saturating_add(count));
        if self.steps.get() > MAX_STEPS {
            return Err("the schema is too large".into());
        }
        Ok(())
    }

    /// The place and the schema that a reference names. An error continues the sentence that its place begins.
    pub(super) fn resolve(&self, reference: &str) -> SchemaResult<(String, &'a Value)> {
        let (document, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let fragment = percent_decoded(fragment);
        let (path, base) = if document.is_empty() || self.is_id_of_root(document) {
            ("#".to_owned(), self.root)
        } else {
            let elsewhere = || {
                format!(
                    "is `{reference}`, in another document; put what it refers to into `$defs` and use `#/$defs/...`"
                )
            };
            self.named(document).ok_or_else(elsewhere)?
        };
        let missing = || format!("is `{reference}`, which is not in the schema");
        match fragment.as_str() {
            "" => Ok((path, base)),
            "/" if base.get("").is_none() => Ok((path, base)),
            pointer if pointer.starts_with('/') => {
                let found = base.pointer(pointer).ok_or_else(missing)?;
                Ok((format!("{path}{pointer}"), found))
            }
            anchor => self
                .named(anchor)
                .or_else(|| self.named(&format!("#{anchor}")))
                .ok_or_else(missing),
        }
    }

    fn is_id_of_root(&self, document: &str) -> bool {
        let id = ["$id", "id"].iter().find_map(|key| self.root.get(key)?.as_str());
        id.is_some_and(|id| id.trim_end_matches('#') == document)
    }

    fn named(&self, name: &str) -> Option<(String, &'a Value)> {
        let (path, value) = self.named.get(name)?;
        Some((path.clone(), value))
    }

    /// Whether a schema applies itself to the same value, so that it says nothing.
    pub(super) fn is_circular(&self, path: &str, schema: &'a Value) -> SchemaResult<bool> {
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::from([schema]);
        while let Some(schema) = open.pop_front() {
            self.step()?;
            if let Some(reference) = reference_of(schema)
                && let Ok((target, found)) = self.resolve(reference)
            {
                if target == path {
                    return Ok(true);
                }
                if seen.insert(target) {
                    open.push_back(found);
                }
            }
            open.extend(in_place(schema));
        }
        Ok(false)
    }
}

/// The `$ref` of a schema.
pub(super) fn reference_of(schema: &Value) -> Option<&str> {
    field(schema.as_object()?, "$ref")?.as_str()
}

/// The schemas that a schema applies to the same value, except by reference.
pub(super) fn in_place(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["allOf", "anyOf", "oneOf"].into_iter();
    lists.filter_map(move |name| schema.get(name)?.as_array()).flatten()
}

/// `%41` as `A`; what is not an escape stays.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escape = text.get(index + 1..index + 3).filter(|_| bytes[index] == b'%');
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                index += 3;
            }
            None => {
                decoded.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_in_every_spelling() {
        let schema = json!({
            "$id": "https://example.com/root.json",
            "$defs": {
                "a/b": { "const": 1 }, "c~d": { "const": 2 }, "e f": { "const": 3 }, "é%": { "const": 4 },
                "anchored": { "$anchor": "here", "const": 5 }, "old": { "$id": "#there", "const": 6 },
                "own": { "$id": "T0", "const": 7, "deep": [{ "const": 8 }] },
            },
        });
        let document = Document::new(&schema).unwrap();
        let found = |reference: &str| document.resolve(reference).map(|(_, found)| found["const"].clone());
        for (reference, constant) in [
            ("#/$defs/a~1b", 1),
            ("#/%24defs/a~1b", 1),
            ("#/$defs/c~0d", 2),
            ("#/$defs/e%20f", 3),
            ("#/$defs/%C3%A9%25", 4),
            ("#/$defs/é%", 4),
            ("#here", 5),
            ("#there", 6),
            ("T0", 7),
            ("T0#/deep/0", 8),
            ("https://example.com/root.json#/$defs/a~1b", 1),
        ] {
            assert_eq!(found(reference), Ok(json!(constant)), "{reference}");
        }
        for reference in ["#", "#/", "https://example.com/root.json"] {
            assert_eq!(document.resolve(reference).map(|(path, _)| path), Ok("#".to_owned()));
        }
        for reference in ["#/nowhere", "#nothing", "other.json", "#/$defs/a/b"] {
            assert!(document.resolve(reference).is_err(), "{reference}");
        }
    }
}
