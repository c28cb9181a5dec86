//! Whether a value is valid under a JSON Schema, for the keywords that the tests use except `pattern` and `format`.
//!
//! `fixtures/make_schemas.py` gives right and wrong values that Python's jsonschema has judged; this validator is held to
//! them.

use serde_json::Value;

/// Why a value is not valid, with the keyword.
pub(crate) fn validate(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let fields = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err(format!("{value} where nothing is allowed")),
    };
    if fields.get("nullable") == Some(&Value::Bool(true)) && value.is_null() {
        return Ok(());
    }
    for (keyword, rule) in fields
        .iter()
        .filter(|(keyword, rule)| !rule.is_null() || *keyword == "const")
    {
        if !holds(root, fields, keyword, rule, value)? {
            return Err(format!("{value} breaks {keyword}: {rule}"));
        }
    }
    Ok(())
}

type Fields = serde_json::Map<String, Value>;

fn holds(root: &Value, fields: &Fields, keyword: &str, rule: &Value, value: &Value) -> Result<bool, String> {
    let list = || rule.as_array().unwrap().iter();
    let number = |compare: fn(f64, f64) -> bool| {
        let rule = rule.as_f64();
        value
            .as_f64()
            .is_none_or(|number| rule.is_none_or(|rule| compare(number, rule)))
    };
    let length = |found: Option<usize>, compare: fn(u64, u64) -> bool| {
        found.is_none_or(|found| compare(found as u64, rule.as_u64().unwrap()))
    };
    let characters = || value.as_str().map(|text| text.chars().count());
    let items = || value.as_array().map(Vec::len);
    let properties = || value.as_object().map(Fields::len);
    Ok(match keyword {
        "$ref" => {
            validate(root, target(root, rule.as_str().unwrap()), value)?;
            true
        }
        "allOf" => {
            list().try_for_each(|part| validate(root, part, value))?;
            true
        }
        "anyOf" | "oneOf" => list().any(|option| validate(root, option, value).is_ok()),
        "not" => validate(root, rule, value).is_err(),
        "enum" => list().any(|option| same(option, value)),
        "const" => same(rule, value),
        "type" => match rule {
            Value::Array(names) => names.iter().any(|name| is_type(name, value)),
            name => is_type(name, value),
        },
        "minimum" if fields.get("exclusiveMinimum") == Some(&Value::Bool(true)) => number(|a, b| a > b),
        "minimum" => number(|a, b| a >= b),
        "maximum" => number(|a, b| a <= b),
        "exclusiveMinimum" => number(|a, b| a > b),
        "exclusiveMaximum" => number(|a, b| a < b),
        "multipleOf" => number(|a, b| a % b == 0.0),
        "minLength" => length(characters(), |a, b| a >= b),
        "maxLength" => length(characters(), |a, b| a <= b),
        "minItems" => length(items(), |a, b| a >= b),
        "maxItems" => length(items(), |a, b| a <= b),
        "minProperties" => length(properties(), |a, b| a >= b),
        "maxProperties" => length(properties(), |a, b| a <= b),
        "required" => value
            .as_object()
            .is_none_or(|found| list().all(|name| found.contains_key(name.as_str().unwrap()))),
        "prefixItems" => {
            let pairs = list().zip(value.as_array().into_iter().flatten());
            pairs
                .into_iter()
                .try_for_each(|(schema, item)| validate(root, schema, item))?;
            true
        }
        "items" if rule.is_array() => {
            let pairs = list().zip(value.as_array().into_iter().flatten());
            pairs
                .into_iter()
                .try_for_each(|(schema, item)| validate(root, schema, item))?;
            true
        }
        "items" => {
            let before = fields.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            let mut rest = value.as_array().into_iter().flatten().skip(before);
            rest.try_for_each(|item| validate(root, rule, item))?;
            true
        }
        "properties" => {
            for (name, schema) in rule.as_object().unwrap() {
                value.get(name).map_or(Ok(()), |field| validate(root, schema, field))?;
            }
            true
        }
        "additionalProperties" => {
            let known = |name: &str| fields.get("properties").is_some_and(|named| named.get(name).is_some());
            let mut other = value.as_object().into_iter().flatten().filter(|(name, _)| !known(name));
            other.try_for_each(|(_, field)| validate(root, rule, field))?;
            true
        }
        "propertyNames" => {
            let mut names = value.as_object().into_iter().flatten();
            names.try_for_each(|(name, _)| validate(root, rule, &Value::from(name.as_str())))?;
            true
        }
        // Judged by the client's own libraries where they matter, or by nobody: these only describe.
        "pattern" | "format" | "patternProperties" | "unevaluatedProperties" | "uniqueItems" => true,
        "$defs" | "definitions" | "$schema" | "$id" | "$anchor" | "$comment" | "title" | "description" | "default"
        | "examples" | "example" | "deprecated" | "readOnly" | "writeOnly" | "contentMediaType" | "contentEncoding"
        | "contentSchema" | "enumNames" | "discriminator" | "nullable" => true,
        other if other.starts_with("x-") => true,
        other => panic!("the keyword {other} is not known here"),
    })
}

fn is_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("{other}"),
    }
}

/// JSON has one type of number: 1 is 1.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        _ => one == other,
    }
}

/// What a reference of the fixtures names: a pointer, an anchor, or the whole schema by its id.
fn target<'s>(root: &'s Value, reference: &str) -> &'s Value {
    let reference = reference.replace("%24", "$").replace("%20", " ");
    let Some(fragment) = reference.strip_prefix('#') else {
        assert_eq!(root["$id"], reference);
        return root;
    };
    if let Some(found) = root.pointer(fragment) {
        return found;
    }
    let mut definitions = root["$defs"].as_object().unwrap().values();
    definitions.find(|schema| schema["$anchor"] == fragment).unwrap()
}
