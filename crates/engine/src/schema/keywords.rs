//! The keywords of JSON Schema: the form of each one that is followed, and the reason for each one that is not.

use serde_json::{Map, Value};

use super::{SchemaResult, at, field, place};

/// The names that `type` may have.
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// The form of a keyword's value. Schemas within are checked when they are rewritten.
#[derive(Clone, Copy)]
enum Form {
    Schema,
    SchemaOrSchemas,
    NamedSchemas,
    Schemas,
    Count,
    Number,
    /// Draft 4 writes a boolean, later drafts a number.
    NumberOrFlag,
    PositiveNumber,
    Text,
    Texts,
    Flag,
    Values,
    Type,
}

/// The keywords that are followed.
const FOLLOWED: [(&str, Form); 30] = [
    ("$ref", Form::Text),
    ("type", Form::Type),
    ("enum", Form::Values),
    ("nullable", Form::Flag),
    ("allOf", Form::Schemas),
    ("anyOf", Form::Schemas),
    ("oneOf", Form::Schemas),
    ("properties", Form::NamedSchemas),
    ("patternProperties", Form::NamedSchemas),
    ("additionalProperties", Form::Schema),
    ("unevaluatedProperties", Form::Schema),
    ("propertyNames", Form::Schema),
    ("required", Form::Texts),
    ("minProperties", Form::Count),
    ("maxProperties", Form::Count),
    ("items", Form::SchemaOrSchemas),
    ("prefixItems", Form::Schemas),
    ("additionalItems", Form::Schema),
    ("unevaluatedItems", Form::Schema),
    ("minItems", Form::Count),
    ("maxItems", Form::Count),
    ("minLength", Form::Count),
    ("maxLength", Form::Count),
    ("pattern", Form::Text),
    ("format", Form::Text),
    ("minimum", Form::Number),
    ("maximum", Form::Number),
    ("exclusiveMinimum", Form::NumberOrFlag),
    ("exclusiveMaximum", Form::NumberOrFlag),
    ("multipleOf", Form::PositiveNumber),
];

/// The keywords that constrain and cannot be followed token by token.
const NOT_FOLLOWED: [(&str, &str); 12] = [
    ("not", "what a value must not be cannot be written token by token"),
    ("if", "conditions cannot be written token by token; use `anyOf`"),
    ("contains", "it constrains an array as a whole; constrain `items`"),
    (
        "dependencies",
        "conditions between properties are not followed; use `anyOf`",
    ),
    (
        "dependentRequired",
        "conditions between properties are not followed; use `anyOf`",
    ),
    (
        "dependentSchemas",
        "conditions between properties are not followed; use `anyOf`",
    ),
    ("$dynamicRef", "use `$ref`"),
    ("$recursiveRef", "use `$ref`"),
    ("divisibleBy", "use `multipleOf`"),
    ("disallow", "use `type`"),
    ("extends", "use `allOf`"),
    ("uniqueItems", UNIQUE),
];

const UNIQUE: &str = "whether items differ cannot be told token by token; leave it out and check the answer";

/// Checks the keywords of one schema.
pub(super) fn check(fields: &Map<String, Value>, path: &str) -> SchemaResult<()> {
    for (name, value) in fields {
        if value.is_null() {
            continue;
        }
        if let Some((_, form)) = FOLLOWED.iter().find(|(followed, _)| followed == name) {
            check_form(*form, value, &place(path, name))?;
        }
        if let Some((_, reason)) = NOT_FOLLOWED.iter().find(|(other, _)| other == name)
            && !has_no_effect(name, value, fields)
        {
            return at(&place(path, name), format!("is not supported: {reason}"));
        }
    }
    Ok(())
}

/// Whether a keyword that is not followed changes nothing with this value.
fn has_no_effect(name: &str, value: &Value, fields: &Map<String, Value>) -> bool {
    match name {
        "uniqueItems" => {
            let most = field(fields, "maxItems").and_then(Value::as_u64);
            *value == Value::Bool(false) || most.is_some_and(|most| most <= 1)
        }
        "dependencies" | "dependentRequired" | "dependentSchemas" => value.as_object().is_some_and(Map::is_empty),
        "not" => *value == Value::Bool(false),
        // Without one of these, `if` has no consequence.
        "if" => field(fields, "then").is_none() && field(fields, "else").is_none(),
        _ => false,
    }
}

fn check_form(form: Form, value: &Value, path: &str) -> SchemaResult<()> {
    let is_schema = |value: &Value| value.is_object() || value.is_boolean();
    let (fits, expected) = match form {
        Form::Schema => (is_schema(value), "a schema: an object or a boolean"),
        Form::SchemaOrSchemas => (is_schema(value) || value.is_array(), "a schema or an array of schemas"),
        Form::NamedSchemas => (value.is_object(), "an object with a schema for each name"),
        Form::Schemas => (
            value.as_array().is_some_and(|items| !items.is_empty()),
            "an array of at least one schema",
        ),
        Form::Count => (count(value).is_some(), "a whole number of at least 0"),
        Form::Number => (value.is_number(), "a number"),
        Form::NumberOrFlag => (value.is_number() || value.is_boolean(), "a number"),
        Form::PositiveNumber => (
            value.as_f64().is_some_and(|number| number > 0.0),
            "a number greater than 0",
        ),
        Form::Text => (value.is_string(), "a string"),
        Form::Texts => (
            value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
            "an array of strings",
        ),
        Form::Flag => (value.is_boolean(), "true or false"),
        Form::Values => (
            value.as_array().is_some_and(|items| !items.is_empty()),
            "an array of at least one value",
        ),
        Form::Type => return check_type(value, path),
    };
    if fits {
        Ok(())
    } else {
        at(path, format!("must be {expected}, found {}", shortened(value)))
    }
}

fn check_type(value: &Value, path: &str) -> SchemaResult<()> {
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let fits = match value {
        Value::Array(items) => !items.is_empty() && items.iter().all(is_type),
        _ => is_type(value),
    };
    if fits {
        return Ok(());
    }
    let found = shortened(value);
    at(
        path,
        format!(
            "must be one of {}, or an array of them, found {found}",
            TYPES.join(", ")
        ),
    )
}

/// A whole number; JSON libraries also write it as `3.0`.
pub(super) fn count(value: &Value) -> Option<u64> {
    let whole = |number: f64| number >= 0.0 && number.fract() == 0.0 && number < 9.0e15;
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|number| whole(*number))
            .map(|number| number as u64)
    })
}

/// A value for an error message.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
