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

/// What lm-evaluation-harness's `local-completions` asks for, and what OpenAI answered it with.
#[test]
fn an_echoed_prompt_has_its_log_probabilities() {
    let server = start();
    let body = json!({
        "prompt": ["Hé\n", byte_tokens("<x")], "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0,
    });
    let whole = server.post("/v1/completions", &body).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["text"], "Hé\nHello");
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["H", "\u{fffd}", "\u{fffd}", "\n", "Hello"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 1, 2, 3]));
    assert_eq!(
        (&logprobs["token_logprobs"][0], &logprobs["top_logprobs"][0]),
        (&Value::Null, &Value::Null)
    );
    // The mock's first word is by far the most likely after anything but its own words.
    let expected = server
        .post(
            "/v1/completions",
            &json!({ "prompt": "H", "logprobs": 1, "max_tokens": 1 }),
        )
        .json();
    let best = &expected["choices"][0]["logprobs"]["token_logprobs"][0];
    assert_eq!(&logprobs["top_logprobs"][1]["Hello"], best);
    assert!(logprobs["token_logprobs"][1].as_f64() < best.as_f64());
    assert_eq!(&logprobs["token_logprobs"][4], best);
    assert_eq!(whole["choices"][1]["text"], "<xHello");
    assert_eq!(
        whole["usage"],
        json!({
            "prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8, "prompt_tokens_details": { "cached_tokens": 0 },
        })
    );

    let mut streamed = body;
    streamed["stream"] = true.into();
    let chunks = server.stream("/v1/completions", &streamed).chunks();
    for index in 0..2 {
        let own: Vec<&Value> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        let text: String = own.iter().filter_map(|choice| choice["text"].as_str()).collect();
        assert_eq!(whole["choices"][index]["text"], text);
        for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let all = own
                .iter()
                .filter_map(|choice| choice["logprobs"][field].as_array())
                .flatten();
            assert_eq!(
                whole["choices"][index]["logprobs"][field],
                all.cloned().collect::<Value>()
            );
        }
    }
}

#[test]
fn a_prompt_alone_is_echoed_with_and_without_log_probabilities() {
    let server = start();
    let choice = |more: &Value| {
        let mut body = json!({ "prompt": "Hi\n", "echo": true, "max_tokens": 0 });
        body.as_object_mut()
            .unwrap()
            .append(&mut more.as_object().unwrap().clone());
        server.post("/v1/completions", &body).json()["choices"][0].clone()
    };
    let plain = choice(&json!({}));
    assert_eq!(
        plain,
        json!({ "text": "Hi\n", "index": 0, "logprobs": null, "finish_reason": "length" })
    );
    let scored = choice(&json!({ "logprobs": 3 }));
    assert_eq!(
        (&scored["text"], &scored["finish_reason"]),
        (&json!("Hi\n"), &json!("length"))
    );
    assert_eq!(scored["logprobs"]["tokens"], json!(["H", "i", "\n"]));
    assert!(scored["logprobs"]["top_logprobs"][1].as_object().unwrap().len() >= 3);
    let longer = choice(&json!({ "max_tokens": 2 }));
    assert_eq!(
        (&longer["text"], &longer["logprobs"]),
        (&json!("Hi\nHello,"), &Value::Null)
    );
    let chunks = server
        .stream(
            "/v1/completions",
            &json!({ "prompt": "Hi\n", "echo": true, "max_tokens": 2, "stream": true, "n": 2 }),
        )
        .chunks();
    for index in 0..2 {
        let own = chunks.iter().filter(|chunk| chunk["choices"][0]["index"] == index);
        let text: String = own.filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
        assert_eq!(text, "Hi\nHello,");
    }
    // The token that ends the completion is one of those asked for.
    let ended = server
        .post(
            "/v1/completions",
            &json!({ "prompt": "Hi\n.", "echo": true, "logprobs": 1, "max_tokens": 1 }),
        )
        .json();
    assert_eq!(ended["choices"][0]["text"], "Hi\n.");
    assert_eq!(
        ended["choices"][0]["logprobs"]["tokens"],
        json!(["H", "i", "\n", ".", "<|im_end|>"])
    );
    let refused = server
        .post("/v1/completions", &json!({ "prompt": "Hi\n", "max_tokens": 0 }))
        .error();
    assert_eq!((refused.0, refused.2.as_deref()), (400, Some("max_tokens")));
    for more in [json!({ "best_of": 3 }), json!({ "best_of": 2, "n": 3 })] {
        let mut body = json!({ "prompt": "Hi\n" });
        body.as_object_mut()
            .unwrap()
            .append(&mut more.as_object().unwrap().clone());
        assert_eq!(
            server.post("/v1/completions", &body).error().2.as_deref(),
            Some("best_of")
        );
    }
    assert_eq!(
        server
            .post("/v1/completions", &json!({ "prompt": "Hi\n", "best_of": 2, "n": 2 }))
            .status,
        200
    );
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
