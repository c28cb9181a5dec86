//! Which properties the schemas of one object name together, and whether they ask for further ones.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::reference::{Document, in_place, reference_of};
use super::{SchemaResult, cost, field, text_cost};

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
                document.steps(Self::own_cost(fields))?;
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

    /// Steps that copying the names of one schema costs.
    fn own_cost(fields: &Map<String, Value>) -> usize {
        let objects = ["properties", "patternProperties"].into_iter();
        let objects = objects.filter_map(|name| field(fields, name)?.as_object());
        let names = objects.flat_map(Map::keys).map(|name| text_cost(name)).sum::<usize>();
        names + field(fields, "required").map_or(0, cost)
    }

    /// Steps that copying the names and patterns costs.
    pub(super) fn cost(&self) -> usize {
        self.names
            .keys()
            .chain(self.patterns.keys())
            .map(|name| text_cost(name))
            .sum()
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
