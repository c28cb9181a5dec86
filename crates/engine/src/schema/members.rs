//! Which properties the schemas of one object name together, and whether they ask for further ones.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::reference::{Document, in_place, reference_of};
use super::{SchemaResult, field};

/// The properties of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Members {
    /// The names, each with the schema that admits everything.
    pub(super) names: Map<String, Value>,
    /// The same for patterns of names.
    pub(super) patterns: Map<String, Value>,
    /// Whether further properties are asked for.
    pub(super) open: bool,
}

impl Members {
    /// What one schema says itself.
    pub(super) fn own(fields: &Map<String, Value>) -> Self {
        let mut members = Self::default();
        members.add_own(fields);
        members
    }

    /// What a schema says together with all that it applies to the same object.
    pub(super) fn of<'a>(document: &Document<'a>, schema: &'a Value) -> SchemaResult<Self> {
        let mut members = Self::default();
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::from([schema]);
        while let Some(schema) = open.pop_front() {
            document.step()?;
            if let Some(fields) = schema.as_object() {
                document.steps(Self::size(fields))?;
                members.add_own(fields);
            }
            // A reference that leads nowhere is an error when it is rewritten.
            if let Some(reference) = reference_of(schema)
                && seen.insert(reference)
                && let Ok((_, found)) = document.resolve(reference)
            {
                open.push_back(found);
            }
            open.extend(in_place(schema));
        }
        Ok(members)
    }

    /// The names that one schema holds.
    fn size(fields: &Map<String, Value>) -> usize {
        let of_object = |name: &str| field(fields, name).and_then(Value::as_object).map_or(0, Map::len);
        let required = field(fields, "required").and_then(Value::as_array).map_or(0, Vec::len);
        of_object("properties") + of_object("patternProperties") + required
    }

    /// The number of names and patterns.
    pub(super) fn len(&self) -> usize {
        self.names.len() + self.patterns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.patterns.is_empty()
    }

    /// Adds those of another schema of the same object.
    pub(super) fn add(&mut self, other: &Self) {
        for (name, schema) in &other.names {
            self.names.entry(name.clone()).or_insert_with(|| schema.clone());
        }
        for (pattern, schema) in &other.patterns {
            self.patterns.entry(pattern.clone()).or_insert_with(|| schema.clone());
        }
        self.open |= other.open;
    }

    fn add_own(&mut self, fields: &Map<String, Value>) {
        let object = |name: &str| field(fields, name).and_then(Value::as_object);
        let required = field(fields, "required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        let properties = object("properties").into_iter().flat_map(Map::keys);
        for name in properties.map(String::as_str).chain(required) {
            self.names.entry(name).or_insert(Value::Bool(true));
        }
        for pattern in object("patternProperties").into_iter().flat_map(Map::keys) {
            self.patterns.entry(pattern.clone()).or_insert(Value::Bool(true));
        }
        self.open |= ["additionalProperties", "unevaluatedProperties"]
            .iter()
            .any(|name| field(fields, name).is_some_and(|further| *further != Value::Bool(false)));
    }
}
