//! `POST /v1/chat/completions`, whole answers, and the models they come from.

use serde_json::{Value, json};

use crate::client::{Setup, start};
use crate::support::{ADAPTER_WORDS, BASE_TOKENS, BASE_WORDS, MockModel, Speech};

fn hello(more: &Value) -> Value {
    let mut body = json!({ "model": "mock", "messages": [{ "role": "user", "content": "Hi" }] });
    body.as_object_mut()
        .unwrap()
        .append(&mut more.as_object().unwrap().clone());
    body
}

#[test]
fn a_whole_answer_has_openais_shape() {
    let server = start();
    let answer = server.post("/v1/chat/completions", &hello(&json!({})));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
    let body = answer.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
    // "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", a byte a token.
    let prompt_tokens = 3 + "user\nHi\nassistant\n".len();
    let completion_tokens = BASE_TOKENS;
    let expected = json!({
        "id": body["id"],
        "object": "chat.completion",
        "created": body["created"],
        "model": "mock",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": BASE_WORDS.concat(), "refusal": null },
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": { "cached_tokens": 0 },
        },
    });
    assert_eq!(body, expected);
}

#[test]
fn limits_and_stops_have_their_finish_reasons() {
    let server = start();
    let run = |more| {
        let body = server.post("/v1/chat/completions", &hello(&more)).json();
        let choice = &body["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap().to_owned();
        (text, choice["finish_reason"].as_str().unwrap().to_owned())
    };
    let pair = |text: &str, reason: &str| (text.to_owned(), reason.to_owned());
    assert_eq!(run(json!({ "max_tokens": 3 })), pair("Hello, this", "length"));
    assert_eq!(run(json!({ "max_completion_tokens": 2 })), pair("Hello,", "length"));
    assert_eq!(run(json!({ "stop": "s a m" })), pair("Hello, this i", "stop"));
    assert_eq!(
        run(json!({ "stop": ["zebra", "🦀"] })),
        pair("Hello, this is a mock café with the", "stop")
    );
    assert_eq!(run(json!({ "stop": null, "max_tokens": null })).1, "stop");
}

#[test]
fn adapters_are_models_with_the_base_as_parent() {
    let server = start();
    let answer = server
        .post("/v1/chat/completions", &hello(&json!({ "model": "first" })))
        .json();
    assert_eq!(answer["model"], "first");
    assert_eq!(answer["choices"][0]["message"]["content"], ADAPTER_WORDS.concat());

    let list = server.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let cards: Vec<(&str, &Value)> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|card| (card["id"].as_str().unwrap(), &card["parent"]))
        .collect();
    assert_eq!(
        cards,
        [
            ("mock", &Value::Null),
            ("first", &json!("mock")),
            ("second", &json!("mock"))
        ]
    );
    assert!(
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|card| card["object"] == "model" && card["created"].is_u64())
    );
    assert_eq!(server.get("/v1/models/first").json()["parent"], "mock");
    let (status, _, _, code) = server.get("/v1/models/none").error();
    assert_eq!((status, code.as_deref()), (404, Some("model_not_found")));
}

#[test]
fn a_model_name_may_be_left_out_and_may_contain_a_slash() {
    let server = Setup {
        server: synapse_server::ServerOptions::new("org/name"),
        ..Setup::default()
    }
    .start();
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 1 });
    assert_eq!(server.post("/v1/chat/completions", &body).json()["model"], "org/name");
    assert_eq!(server.get("/v1/models/org/name").json()["id"], "org/name");
}

#[test]
fn log_probabilities_match_the_text() {
    let server = start();
    let body = hello(&json!({ "logprobs": true, "top_logprobs": 2 }));
    let choice = server.post("/v1/chat/completions", &body).json()["choices"][0].clone();
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), BASE_TOKENS - 1, "one a token, none for the stop token");
    let first = &content[0];
    assert_eq!(
        (&first["token"], &first["bytes"]),
        (&json!("Hello"), &json!("Hello".as_bytes()))
    );
    assert_eq!(first["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(first["top_logprobs"][0]["token"], "Hello");
    assert_eq!(first["top_logprobs"][0]["logprob"], first["logprob"]);
    assert!(first["logprob"].as_f64().unwrap() < 0.0);
    // Half a character has no text of its own, but bytes.
    let bytes = content.iter().flat_map(|entry| entry["bytes"].as_array().unwrap());
    let bytes: Vec<u8> = bytes.map(|byte| byte.as_u64().unwrap() as u8).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), BASE_WORDS.concat());
    assert!(content.iter().any(|entry| entry["token"] == "\u{fffd}"));
}

#[test]
fn several_answers_differ_and_a_seed_repeats_them() {
    let server = Setup {
        model: MockModel::new(Speech::Random, 0),
        ..Setup::default()
    }
    .start();
    let run = |seed: i64| {
        let body = hello(&json!({ "n": 3, "seed": seed, "max_tokens": 12, "temperature": 1.5, "ignore_eos": true }));
        let body = server.post("/v1/chat/completions", &body).json();
        assert_eq!(body["usage"]["completion_tokens"], 36);
        assert_eq!(body["usage"]["prompt_tokens"], 21, "the prompt counts once");
        let choices = body["choices"].as_array().unwrap().clone();
        assert!(
            choices
                .iter()
                .enumerate()
                .all(|(index, choice)| choice["index"] == index)
        );
        choices
            .iter()
            .map(|choice| choice["message"]["content"].clone())
            .collect::<Vec<_>>()
    };
    let first = run(-5);
    assert_eq!(first, run(-5));
    assert_ne!(first, run(-6));
    assert!(first[0] != first[1] && first[1] != first[2]);
}
