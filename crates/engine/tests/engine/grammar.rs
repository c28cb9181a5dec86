//! Answers that follow a grammar, whatever the model would rather say.

use proptest::prelude::*;
use serde_json::{Value, json};
use synapse_engine::{EngineError, EngineOptions, FinishReason, Grammar, Request, SamplingOptions, StructuralTag};

use crate::support::{MockModel, Speech};
use crate::{Rig, greedy, one, request, rig};

pub(crate) fn any_speech() -> Rig {
    rig(MockModel::new(Speech::Random, 0), EngineOptions::default())
}

/// An answer under a grammar, drawn from a model that babbles.
fn babble(rig: &Rig, grammar: &Grammar, seed: u64) -> synapse_engine::Completion {
    let sampling = SamplingOptions {
        temperature: 1.0,
        seed,
        ..greedy(2000)
    };
    let request = Request {
        constraint: Some(rig.engine.compile(grammar).unwrap()),
        ..request("Hi\n", sampling)
    };
    one(&rig.engine, request)
}

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 6 },
            "age": { "type": "integer", "minimum": 0, "maximum": 120 },
            "kind": { "$ref": "#/$defs/kind" },
            "tags": { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 3 },
        },
        "required": ["name", "age", "kind", "tags"],
        "additionalProperties": false,
        "$defs": { "kind": { "enum": ["cat", "dog", null] } },
    })
}

#[test]
fn a_babbling_model_writes_what_the_schema_says() {
    let rig = any_speech();
    for seed in 0..12 {
        let answer = babble(&rig, &Grammar::Json(person()), seed);
        assert_eq!(answer.finish_reason, FinishReason::Stop, "{}", answer.text);
        let value: Value =
            serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {}", answer.text));
        let fields = value.as_object().unwrap();
        assert_eq!(fields.len(), 4, "{value}");
        assert!(value["name"].as_str().unwrap().chars().count() <= 6, "{value}");
        assert!(value["age"].as_u64().unwrap() <= 120, "{value}");
        assert!(
            [json!("cat"), json!("dog"), json!(null)].contains(&value["kind"]),
            "{value}"
        );
        assert!(value["tags"].as_array().unwrap().len() <= 3, "{value}");
    }
}

#[test]
fn the_first_grammar_does_not_leak_into_a_neighbor() {
    let rig = any_speech();
    let constraint = rig
        .engine
        .compile(&Grammar::Json(json!({ "enum": [1, 2, 3] })))
        .unwrap();
    let held = Request {
        constraint: Some(constraint),
        ..request("Hi\n", greedy(50))
    };
    let free = request("Hi\n", greedy(50));
    let alone = one(&rig.engine, free.clone());
    let together = rig.engine.generate(vec![held.clone(), free, held]).unwrap();
    assert_eq!(together[1].token_ids(), alone.token_ids());
    assert_eq!(together[0].text, together[2].text);
    assert!(
        ["1", "2", "3"].contains(&together[0].text.as_str()),
        "{}",
        together[0].text
    );
}

#[test]
fn tagged_values_stand_between_their_tags() {
    let rig = any_speech();
    let call = |name: &str, schema| StructuralTag {
        name: name.to_owned(),
        begin: format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": "),
        schema,
        end: "}\n</tool_call>".into(),
    };
    let point = json!({
        "type": "object",
        "properties": { "at": { "$ref": "#/$defs/axis" } },
        "required": ["at"],
        "additionalProperties": false,
        "$defs": { "axis": { "type": "boolean" } },
    });
    let choices = vec![
        call("go", point),
        call("stop", json!({ "type": "object", "additionalProperties": false })),
    ];
    for seed in 0..8 {
        let answer = babble(&rig, &Grammar::OneOf(choices.clone()), seed);
        let inner = answer
            .text
            .strip_prefix("<tool_call>\n")
            .and_then(|text| text.strip_suffix("\n</tool_call>"));
        let value: Value = serde_json::from_str(inner.unwrap()).unwrap();
        match value["name"].as_str().unwrap() {
            "go" => assert!(value["arguments"]["at"].is_boolean(), "{value}"),
            "stop" => assert_eq!(value["arguments"], json!({})),
            other => panic!("{other}"),
        }
    }
    let several = Grammar::Repeated(choices, "\n".into());
    let counts: Vec<usize> = (0..8)
        .map(|seed| babble(&rig, &several, seed).text.matches("</tool_call>").count())
        .collect();
    assert!(counts.iter().all(|&count| count >= 1), "{counts:?}");
    assert!(counts.iter().any(|&count| count > 1), "{counts:?}");
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let rig = any_speech();
    let deep = (0..100).fold(
        json!({ "type": "null" }),
        |inner, _| json!({ "type": "array", "items": inner }),
    );
    assert!(rig.engine.compile(&Grammar::Json(deep)).is_ok());
    for schema in [
        json!(true),
        json!([]),
        json!({ "type": "animal" }),
        json!({ "type": "string", "pattern": "(" }),
        json!({ "type": "integer", "minimum": 3, "maximum": 2 }),
        json!({ "allOf": [{ "$ref": "#" }, { "type": "object" }] }),
        json!({ "type": "object", "properties": 7 }),
        json!({ "type": "array", "items": {}, "minItems": 4_000_000_000u64 }),
    ] {
        match rig.engine.compile(&Grammar::Json(schema.clone())) {
            Err(EngineError::InvalidGrammar { message }) => assert!(!message.contains('\n'), "{message}"),
            Err(other) => panic!("{schema}: {other}"),
            // Whatever is taken must be followed without taking the engine down.
            Ok(_) => drop(babble_or_fail(&rig, &schema)),
        }
    }
    assert!(one(&rig.engine, request("Hi\n", greedy(3))).usage.completion_tokens > 0);
}

fn babble_or_fail(rig: &Rig, schema: &Value) -> Result<Vec<synapse_engine::Completion>, EngineError> {
    let constraint = rig.engine.compile(&Grammar::Json(schema.clone()))?;
    let request = Request {
        constraint: Some(constraint),
        ..request("Hi\n", greedy(60))
    };
    rig.engine.generate(vec![request])
}

/// Schemas of the parts that are kept.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({ "type": "null" })),
        Just(json!({ "type": "boolean" })),
        (0..50i64, 0..50i64)
            .prop_map(|(low, more)| json!({ "type": "integer", "minimum": low, "maximum": low + more })),
        (0..4usize).prop_map(|most| json!({ "type": "string", "maxLength": most })),
        proptest::collection::vec("[a-z\"\\\\é]{0,3}", 1..4).prop_map(|values| json!({ "enum": values })),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0..3usize).prop_map(|(items, most)| json!({ "type": "array", "items": items, "maxItems": most })),
            proptest::collection::btree_map("[a-z\"]{1,3}", inner, 0..3).prop_map(|properties| {
                let required: Vec<&String> = properties.keys().collect();
                json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
            }),
        ]
    })
}

fn admits(schema: &Value, value: &Value) -> bool {
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(value);
    }
    match schema["type"].as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_i64().is_some_and(|number| {
            schema["minimum"].as_i64() <= Some(number) && Some(number) <= schema["maximum"].as_i64()
        }),
        "string" => value
            .as_str()
            .is_some_and(|text| text.chars().count() as u64 <= schema["maxLength"].as_u64().unwrap()),
        "array" => value.as_array().is_some_and(|items| {
            items.len() as u64 <= schema["maxItems"].as_u64().unwrap()
                && items.iter().all(|item| admits(&schema["items"], item))
        }),
        _ => value.as_object().is_some_and(|fields| {
            let properties = schema["properties"].as_object().unwrap();
            fields.len() == properties.len()
                && properties
                    .iter()
                    .all(|(name, schema)| fields.get(name).is_some_and(|value| admits(schema, value)))
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_one_the_schema_admits(schema in schema(), seed in 0u64..1000) {
        let rig = any_speech();
        let answer = babble(&rig, &Grammar::Json(schema.clone()), seed);
        prop_assert_eq!(answer.finish_reason, FinishReason::Stop);
        let value: Value = serde_json::from_str(&answer.text).unwrap();
        prop_assert!(admits(&schema, &value), "{} is not {}", value, schema);
    }
}
