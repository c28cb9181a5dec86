//! Which of the schemas that apply to one object limits it to the properties that they name together, and how.

use serde_json::{Map, Value, json};

use super::keywords::count;
use super::members::Members;
use super::reference::Document;
use super::{SchemaResult, field};

/// What a schema is for its value.
#[derive(Debug, Clone)]
pub(super) enum Role {
    /// With the names that surround it, all that is said: it closes an object.
    Whole(Members),
    /// Another schema closes the object.
    Part,
}

impl Role {
    /// Of a schema that no other surrounds.
    pub(super) fn alone() -> Self {
        Self::Whole(Members::default())
    }

    /// Steps that copying it costs.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Whole(around) => around.cost(),
            Self::Part => 0,
        }
    }
}

/// What the schemas that apply to one value are for it.
pub(super) struct Roles {
    pub(super) all_of: Vec<Role>,
    pub(super) any_of: Role,
    pub(super) one_of: Role,
    pub(super) reference: Role,
    /// The names to close the object with, if its own schema does it.
    pub(super) close: Option<Members>,
}

impl Roles {
    /// The roles of what `fields` applies, in a schema with this role.
    pub(super) fn of(document: &Document<'_>, fields: &Map<String, Value>, role: &Role) -> SchemaResult<Self> {
        let all_of = list(fields, "allOf");
        let mut roles = Self {
            all_of: vec![Role::Part; all_of.len()],
            any_of: Role::Part,
            one_of: Role::Part,
            reference: Role::Part,
            close: None,
        };
        let Role::Whole(around) = role else {
            return Ok(roles);
        };
        let own = Members::own(fields);
        let parts = all_of.iter().map(|part| Members::of(document, part));
        let parts = parts.collect::<SchemaResult<Vec<Members>>>()?;
        let target = field(fields, "$ref").and_then(Value::as_str);
        let target = target.and_then(|reference| document.resolve(reference).ok());
        let reference = target.map(|(_, found)| Members::of(document, found)).transpose()?;
        let any_of = of_alternatives(document, list(fields, "anyOf"))?;
        let one_of = of_alternatives(document, list(fields, "oneOf"))?;

        let mut together = around.clone();
        together.add(&own);
        // A part without names may still ask for more.
        together.open |= parts.iter().chain(&reference).any(|part| part.is_empty() && part.open);
        let named: Vec<&Members> = parts.iter().chain(&reference).filter(|part| !part.is_empty()).collect();
        let with = |others: &[&Members]| {
            let mut members = together.clone();
            others.iter().for_each(|other| members.add(other));
            members
        };
        if !any_of.is_empty() {
            roles.any_of = Role::Whole(with(&[named.as_slice(), &[&one_of]].concat()));
        } else if !one_of.is_empty() {
            roles.one_of = Role::Whole(with(&named));
        } else if named.len() == 1 && own.is_empty() {
            // One schema by reference or in `allOf`, as older generators write a property with a description.
            for (role, part) in roles.all_of.iter_mut().zip(&parts) {
                if !part.is_empty() {
                    *role = Role::Whole(together.clone());
                }
            }
            if reference.is_some_and(|members| !members.is_empty()) {
                roles.reference = Role::Whole(together);
            }
        } else {
            roles.close = Some(with(&named));
        }
        Ok(roles)
    }
}

fn list<'f>(fields: &'f Map<String, Value>, name: &str) -> &'f [Value] {
    let list = field(fields, name).and_then(Value::as_array);
    list.map_or(&[][..], Vec::as_slice)
}

/// The names of all alternatives. Whether one of them asks for more is its own matter.
fn of_alternatives(document: &Document<'_>, schemas: &[Value]) -> SchemaResult<Members> {
    let mut members = Members::default();
    for schema in schemas {
        members.add(&Members::of(document, schema)?);
    }
    members.open = false;
    Ok(members)
}

/// Limits an object to these members, unless its schema asks for more.
pub(super) fn close_object(written: &mut Map<String, Value>, fields: &Map<String, Value>, members: &Members) {
    if members.open || field(fields, "additionalProperties").is_some() {
        return;
    }
    if members.is_empty() {
        if field(fields, "unevaluatedProperties") == Some(&Value::Bool(false)) {
            written.insert("additionalProperties".into(), Value::Bool(false));
        }
        return;
    }
    let least = field(fields, "minProperties").and_then(count).unwrap_or(0);
    if members.patterns.is_empty() && least > members.names.len() as u64 {
        return;
    }
    for (keyword, members) in [("properties", &members.names), ("patternProperties", &members.patterns)] {
        if members.is_empty() {
            continue;
        }
        if let Some(own) = written.entry(keyword).or_insert_with(|| json!({})).as_object_mut() {
            for (name, schema) in members {
                own.entry(name.clone()).or_insert_with(|| schema.clone());
            }
        }
    }
    written.insert("additionalProperties".into(), Value::Bool(false));
}
