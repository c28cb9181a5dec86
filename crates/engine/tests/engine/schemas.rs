//! Schemas as typed clients send them: a babbling model answers with what they name and ends, or the schema is refused by
//! the place of what cannot be kept.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use synapse_engine::{EngineError, FinishReason, Grammar, Request, SamplingOptions, StructuralTag};

use crate::grammar::any_speech;
use crate::json_schema::validate;
use crate::{Rig, greedy, one, request};

/// The rows of `fixtures/schemas.jsonl`.
fn rows() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/schemas.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An answer under a schema from a model that babbles, with some wish to close what is open.
fn answer(rig: &Rig, schema: &Value, seed: u64) -> synapse_engine::Completion {
    let constraint = rig.engine.compile(&Grammar::Json(schema.clone()));
    let sampling = SamplingOptions {
        temperature: 1.0,
        seed,
        logit_bias: [(u32::from(b'"'), 3.0), (u32::from(b']'), 4.0), (u32::from(b'}'), 4.0)].into(),
        ..greedy(3000)
    };
    let request = Request {
        constraint: Some(constraint.unwrap_or_else(|error| panic!("{schema}: {error}"))),
        ..request("Hi\n", sampling)
    };
    one(&rig.engine, request)
}

/// Every key and string in a schema.
fn texts<'s>(schema: &'s Value, found: &mut BTreeSet<&'s str>) {
    match schema {
        Value::String(text) => _ = found.insert(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                found.insert(name);
                texts(value, found);
            }
        }
        _ => {}
    }
}

/// The names of all properties in a value.
fn names<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                found.push(name);
                names(value, found);
            }
        }
        _ => {}
    }
}

#[test]
fn answers_have_the_named_properties_and_are_valid() {
    let rig = any_speech();
    let rows = rows();
    assert!(rows.len() >= 50);
    for row in &rows {
        let (name, schema, free) = (&row["name"], &row["schema"], row["free"] == true);
        for value in row["right"].as_array().unwrap() {
            assert_eq!(validate(schema, schema, value), Ok(()), "{name}");
        }
        for value in row["wrong"].as_array().unwrap() {
            assert!(validate(schema, schema, value).is_err(), "{name}: {value}");
        }
        for seed in 0..4 {
            let answer = answer(&rig, schema, seed);
            if answer.finish_reason == FinishReason::Length {
                assert!(free, "{name} does not end: {}", answer.text);
                continue;
            }
            let value: Value =
                serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{name}: {error}: {}", answer.text));
            assert_eq!(validate(schema, schema, &value), Ok(()), "{name}: {}", answer.text);
            let (mut known, mut found) = (BTreeSet::new(), Vec::new());
            texts(schema, &mut known);
            names(&value, &mut found);
            assert!(free || found.iter().all(|name| known.contains(name)), "{name}: {value}");
            // Between two parts stands one space, or a line break with an indent.
            assert!(
                !answer.text.contains("  \"") || answer.text.contains('\n'),
                "{name}: {}",
                answer.text
            );
        }
    }
}

#[test]
fn properties_without_names_come_only_where_they_are_asked_for() {
    let rig = any_speech();
    let digit = json!({ "type": "integer", "minimum": 0, "maximum": 9 });
    let named = json!({ "type": "object", "properties": { "a": digit }, "required": ["a"] });
    let with = |keyword: &str, value: Value| {
        let mut schema = named.clone();
        schema[keyword] = value;
        schema
    };
    let invents = |schema: &Value| {
        (0..12).any(|seed| {
            let answer = answer(&rig, schema, seed);
            let value: Option<Value> = serde_json::from_str(&answer.text).ok();
            value.is_none_or(|value| {
                value
                    .as_object()
                    .is_none_or(|fields| fields.keys().any(|name| name != "a"))
            })
        })
    };
    assert!(!invents(&named));
    assert!(!invents(&with("additionalProperties", json!(false))));
    assert!(!invents(&with("unevaluatedProperties", json!(false))));
    assert!(invents(&with("additionalProperties", json!(true))));
    assert!(invents(&with("additionalProperties", json!({}))));
    assert!(invents(&with("additionalProperties", digit)));
    assert!(invents(&with("unevaluatedProperties", json!(true))));
    assert!(invents(&with("minProperties", json!(2))));
    assert!(invents(&json!({ "type": "object" })));
    // As parts of other schemas.
    let defined = |schema: Value| json!({ "$ref": "#/$defs/n", "$defs": { "n": named, "other": schema } });
    assert!(!invents(&defined(json!(true))));
    assert!(!invents(&json!({ "allOf": [named, { "description": "x" }] })));
    assert!(!invents(&json!({ "anyOf": [named] })));
    assert!(invents(&json!({ "allOf": [named, { "additionalProperties": true }] })));
}

#[test]
fn what_cannot_be_kept_is_refused_by_its_place() {
    let rig = any_speech();
    let object = |name: &str, schema: Value| json!({ "type": "object", "properties": { name: schema } });
    for (schema, place) in [
        (
            object("x", json!({ "not": { "type": "string" } })),
            "`#/properties/x/not` is not supported",
        ),
        (json!({ "if": {}, "then": {} }), "`#/if` is not supported"),
        (
            json!({ "unevaluatedProperties": { "type": "string" } }),
            "`#/unevaluatedProperties` is not supported",
        ),
        (
            object("a/b", json!({ "contains": {} })),
            "`#/properties/a~1b/contains` is not supported",
        ),
        (
            object("x", json!({ "type": "array", "uniqueItems": true })),
            "`#/properties/x/uniqueItems` is not supported",
        ),
        (
            json!({ "dependentRequired": { "a": ["b"] } }),
            "`#/dependentRequired` is not supported",
        ),
        (
            json!({ "$ref": "#/nowhere" }),
            "`#/$ref` is `#/nowhere`, which is not in the schema",
        ),
        (
            json!({ "$ref": "https://example.com/x.json" }),
            "`#/$ref` is `https://example.com/x.json`, in another document",
        ),
        (
            json!({ "allOf": [{ "$ref": "#" }] }),
            "`#/allOf/0/$ref` refers to a schema that only refers to itself",
        ),
        (
            json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/a" }] } } }),
            "refers to a schema that only refers to itself",
        ),
        (
            json!({ "$ref": "#/$defs/a", "$defs": { "a": object("deep", json!({ "type": "animal" })) } }),
            "`#/$defs/a/properties/deep/type` must be one of null, boolean",
        ),
        (object("x", json!([])), "`#/properties/x` must be a schema"),
        (json!({ "properties": 7 }), "`#/properties` must be an object"),
        (json!({ "required": true }), "`#/required` must be an array of strings"),
        (
            json!({ "anyOf": [] }),
            "`#/anyOf` must be an array of at least one schema",
        ),
        (
            json!({ "type": "string", "minLength": -1 }),
            "`#/minLength` must be a whole number",
        ),
        (
            json!({ "type": "number", "multipleOf": 0 }),
            "`#/multipleOf` must be a number greater than 0",
        ),
        (
            json!({ "const": 9_007_199_254_740_993i64 }),
            "`#/const` is 9007199254740993",
        ),
        (json!({ "type": "integer", "minimum": 1e300 }), "`#/minimum` is 1e+300"),
        (
            json!({ "type": "string", "pattern": "^(?=a)b" }),
            "`#/pattern` has look-around",
        ),
        (
            json!({ "propertyNames": { "format": "hostname" } }),
            "`#/propertyNames` may only have",
        ),
        (
            json!({ "items": [{}], "prefixItems": [{}] }),
            "`#/items` must be one schema",
        ),
    ] {
        match rig.engine.compile(&Grammar::Json(schema.clone())) {
            Err(EngineError::InvalidGrammar { message }) => assert!(message.contains(place), "{schema}: {message}"),
            other => panic!("{schema}: {other:?}"),
        }
    }
    let tag = StructuralTag {
        name: "search".into(),
        begin: String::new(),
        schema: json!({ "contains": {} }),
        end: String::new(),
    };
    let error = rig.engine.compile(&Grammar::OneOf(vec![tag])).unwrap_err().to_string();
    assert!(error.contains("the schema of `search`: `#/contains`"), "{error}");
}

/// Schemas that would exhaust time or stack if nothing bounded them.
#[test]
fn large_schemas_are_followed_or_refused_in_bounded_space() {
    let rig = any_speech();
    let chain = |length: usize| {
        let link = |index: usize| {
            let next = json!({ "$ref": format!("#/$defs/d{}", (index + 1) % length) });
            let schema = json!({ "type": "object", "properties": { "next": { "type": "array", "items": next, "maxItems": 1 } } });
            (format!("d{index}"), schema)
        };
        json!({ "$ref": "#/$defs/d0", "$defs": (0..length).map(link).collect::<serde_json::Map<_, _>>() })
    };
    assert!(rig.engine.compile(&Grammar::Json(chain(1000))).is_ok());
    assert!(rig.engine.compile(&Grammar::Json(chain(20_000))).is_err());
    // Every definition applies all others.
    let everyone: Vec<Value> = (0..600)
        .map(|index| json!({ "$ref": format!("#/$defs/d{index}") }))
        .collect();
    let dense: serde_json::Map<String, Value> = (0..600)
        .map(|index| {
            let properties = json!({ format!("p{index}"): { "anyOf": everyone } });
            (
                format!("d{index}"),
                json!({ "type": "object", "properties": properties }),
            )
        })
        .collect();
    let schema = json!({ "$ref": "#/$defs/d0", "$defs": dense });
    assert!(rig.engine.compile(&Grammar::Json(schema)).is_err());
    // Every alternative has all names around it.
    let names: serde_json::Map<String, Value> = (0..3000).map(|index| (format!("p{index}"), json!({}))).collect();
    let alternatives: Vec<Value> = (0..3000)
        .map(|index| json!({ "required": [format!("q{index}")] }))
        .collect();
    let schema = json!({ "properties": names, "anyOf": alternatives });
    assert!(rig.engine.compile(&Grammar::Json(schema)).is_err());
    // Long names are part of every place below them, and constants are copied.
    let long = "x".repeat(1 << 16);
    let names: Vec<String> = (0..2000).map(|index| format!("k{index}")).collect();
    let numbers: Vec<u32> = (0..2000).collect();
    for schema in [
        json!({ &long: vec![0; 20_000] }),
        json!({ "properties": { &long: {} }, "anyOf": vec![json!({}); 20_000] }),
        json!({ "type": "object", "propertyNames": { "enum": names }, "additionalProperties": { "enum": numbers } }),
    ] {
        assert!(rig.engine.compile(&Grammar::Json(schema)).is_err());
    }
    // Alternatives are not compared with each other.
    let [low, high] = [0, 20_000].map(|first| (first..first + 20_000).map(|n| n.to_string()).collect::<Vec<_>>());
    let schema = json!({ "oneOf": [{ "enum": low }, { "enum": high }] });
    assert!(rig.engine.compile(&Grammar::Json(schema)).is_ok());
}
