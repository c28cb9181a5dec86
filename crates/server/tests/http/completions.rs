//! `POST /v1/completions`.

use serde_json::{Value, json};

use crate::client::start;
use crate::support::{BASE_TOKENS, BASE_WORDS, byte_tokens};

#[test]
fn text_and_tokens_are_continued() {
    let server = start();
    let text = json!({ "model": "mock", "prompt": "Hi\n", "max_tokens": 40 });
    let body = server.post("/v1/completions", &text).json();
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(body["object"], "text_completion");
    let choice = json!({ "text": BASE_WORDS.concat(), "index": 0, "logprobs": null, "finish_reason": "stop" });
    assert_eq!(body["choices"], json!([choice]));
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 3,
            "completion_tokens": BASE_TOKENS,
            "total_tokens": 3 + BASE_TOKENS,
            "prompt_tokens_details": { "cached_tokens": 0 },
        })
    );

    let tokens = json!({ "model": "mock", "prompt": byte_tokens("Hi\n"), "max_tokens": 40 });
    assert_eq!(
        server.post("/v1/completions", &tokens).json()["choices"][0]["text"],
        BASE_WORDS.concat()
    );
    // OpenAI's default of 16 tokens.
    let default = json!({ "model": "mock", "prompt": "Hi\n" });
    assert_eq!(
        server.post("/v1/completions", &default).json()["usage"]["completion_tokens"],
        16
    );
}

#[test]
fn several_prompts_give_n_choices_each_in_order() {
    let server = start();
    let body = json!({ "prompt": ["a\n", "bc\n", byte_tokens("d\n")], "n": 2, "max_tokens": 1 });
    let body = server.post("/v1/completions", &body).json();
    let indices: Vec<&Value> = body["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| &choice["index"])
        .collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 7,
            "completion_tokens": 6,
            "total_tokens": 13,
            "prompt_tokens_details": { "cached_tokens": 0 },
        })
    );
}

#[test]
fn control_tokens_in_the_prompt_count() {
    let server = start();
    let body = json!({ "prompt": "<|im_start|>user\n", "max_tokens": 1 });
    assert_eq!(
        server.post("/v1/completions", &body).json()["usage"]["prompt_tokens"],
        6
    );
}

#[test]
fn log_probabilities_have_offsets_into_the_text() {
    let server = start();
    let body = json!({ "prompt": "Hi\n", "logprobs": 1, "max_tokens": 10 });
    let whole = server.post("/v1/completions", &body).json()["choices"][0].clone();
    let logprobs = &whole["logprobs"];
    assert_eq!(logprobs["tokens"][0], "Hello");
    assert_eq!(logprobs["text_offset"], json!([0, 5, 6, 11, 14, 16, 21, 25, 25, 26]));
    assert_eq!(logprobs["top_logprobs"][0]["Hello"], logprobs["token_logprobs"][0]);
    let mut body = body;
    body["stream"] = true.into();
    let chunks = server.stream("/v1/completions", &body).chunks();
    let offsets: Vec<Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(Value::from(offsets), logprobs["text_offset"]);
}

#[test]
fn streams_have_the_same_chunks_as_whole_answers() {
    let server = start();
    let body =
        json!({ "prompt": "Hi\n", "stream": true, "max_tokens": 40, "stream_options": { "include_usage": true } });
    let chunks = server.stream("/v1/completions", &body).chunks();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, BASE_WORDS.concat());
    assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[chunks.len() - 1]["usage"]["total_tokens"], 3 + BASE_TOKENS);
}

#[test]
fn impossible_prompts_are_named() {
    let server = start();
    for prompt in [
        json!(null),
        json!([]),
        json!(7),
        json!({}),
        json!([{}]),
        json!(["a", 1]),
        json!([-1]),
        json!([999_999]),
        json!(""),
    ] {
        let (status, message, param, _) = server.post("/v1/completions", &json!({ "prompt": prompt })).error();
        assert_eq!((status, param.as_deref()), (400, Some("prompt")), "{prompt}: {message}");
    }
}

#[test]
fn a_prompt_that_was_read_before_is_not_read_again() {
    let mut setup = crate::client::Setup::default();
    setup.engine.prefix_cache_bytes = 1 << 20;
    let server = setup.start();
    let cached = |body: &Value| server.post("/v1/completions", body).json()["usage"]["prompt_tokens_details"].clone();
    let body = json!({ "prompt": ["x".repeat(200), "y".repeat(130)], "n": 2, "max_tokens": 2 });
    assert_eq!(cached(&body), json!({ "cached_tokens": 0 }));
    assert_eq!(
        cached(&body),
        json!({ "cached_tokens": 192 + 128 }),
        "each prompt counts once"
    );
    let adapted = json!({ "model": "first", "prompt": "x".repeat(200), "max_tokens": 2 });
    assert_eq!(cached(&adapted), json!({ "cached_tokens": 0 }));
    let stream = json!({ "prompt": "x".repeat(200), "stream": true, "stream_options": { "include_usage": true } });
    let chunks = server.stream("/v1/completions", &stream).chunks();
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 192);
    assert!(
        server
            .get("/metrics")
            .body
            .contains("synapse_cached_prompt_tokens_total")
    );
}
