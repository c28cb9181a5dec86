//! `POST /v1/embeddings`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Setup, start};

const EMBEDDINGS: &str = "/v1/embeddings";

/// The mock's hidden states count tokens, their ids by the hundred, and the adapter.
fn expected(text: &str, adapter: f64) -> Vec<f64> {
    let ids: u32 = text.bytes().map(u32::from).sum();
    let sum = [text.len() as f64, f64::from(ids) / 100.0, text.len() as f64 * adapter];
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    sum.map(|value| value / length).to_vec()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-6, "{found:?} is not {expected:?}");
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

#[test]
fn texts_become_unit_vectors_in_their_order() {
    let server = start();
    let body = server
        .post(
            EMBEDDINGS,
            &json!({ "model": "mock", "input": ["abc", "xyz!", [97, 98]] }),
        )
        .json();
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!("mock")));
    assert_eq!(body["usage"], json!({ "prompt_tokens": 9, "total_tokens": 9 }));
    for (index, text) in ["abc", "xyz!", "ab"].into_iter().enumerate() {
        let entry = &body["data"][index];
        assert_eq!(
            (&entry["object"], &entry["index"]),
            (&json!("embedding"), &json!(index))
        );
        assert_close(&numbers(&entry["embedding"]), &expected(text, 0.0));
    }
    let adapted = server
        .post(EMBEDDINGS, &json!({ "model": "second", "input": "abc" }))
        .json();
    assert_eq!(adapted["model"], "second");
    assert_close(&numbers(&adapted["data"][0]["embedding"]), &expected("abc", 2.0));
}

#[test]
fn base64_is_the_same_vector() {
    let server = start();
    let body = server
        .post(
            EMBEDDINGS,
            &json!({ "input": "abc", "encoding_format": "base64", "dimensions": 3 }),
        )
        .json();
    let bytes = STANDARD.decode(body["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let found: Vec<f64> = bytes
        .chunks_exact(4)
        .map(|bytes| f64::from(f32::from_le_bytes(bytes.try_into().unwrap())))
        .collect();
    assert_close(&found, &expected("abc", 0.0));
    let decimal = server.post(EMBEDDINGS, &json!({ "input": "abc" })).json();
    let decimal: Vec<f32> = numbers(&decimal["data"][0]["embedding"])
        .iter()
        .map(|&value| value as f32)
        .collect();
    assert_eq!(
        decimal,
        found.iter().map(|&value| value as f32).collect::<Vec<_>>(),
        "the decimals are exact"
    );
}

#[test]
fn impossible_requests_are_named() {
    let mut setup = Setup::default();
    setup.server.max_inputs = 2;
    setup.server.max_prompt_tokens = Some(5);
    let server = setup.start();
    for (body, param) in [
        (json!({}), "input"),
        (json!({ "input": null }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": "" }), "input"),
        (json!({ "input": ["a", ""] }), "input"),
        (json!({ "input": ["a", "b", "c"] }), "input"),
        (json!({ "input": "abcdef" }), "input"),
        (json!({ "input": [999_999] }), "input"),
        (json!({ "input": "a", "encoding_format": "int8" }), "encoding_format"),
        (json!({ "input": "a", "dimensions": 2 }), "dimensions"),
        (json!({ "input": "a", "temperature": 1 }), "temperature"),
    ] {
        let (status, message, found, _) = server.post(EMBEDDINGS, &body).error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{body}: {message}");
    }
    assert_eq!(
        server
            .post(EMBEDDINGS, &json!({ "input": "a", "model": "none" }))
            .error()
            .0,
        404
    );
    // Forms are for `curl -d` on the completion routes only.
    assert_eq!(
        server.send("POST", EMBEDDINGS, &[], "{\"input\": \"a\"}").error().0,
        415
    );
}
