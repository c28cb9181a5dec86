//! Whatever goes wrong, the answer has OpenAI's shape and the right status.

use serde_json::json;

use crate::client::{Setup, start, wait_until};

const CHAT: &str = "/v1/chat/completions";
const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

#[test]
fn errors_of_http_itself() {
    let mut setup = Setup::default();
    setup.server.max_body_bytes = 1000;
    let server = setup.start();
    let code = |answer: crate::client::Answer| {
        let (status, _, _, code) = answer.error();
        (status, code.unwrap_or_default())
    };
    assert_eq!(
        code(server.send("POST", CHAT, &JSON, "{\"messages\":")),
        (400, "invalid_json".into())
    );
    assert_eq!(
        code(server.send("POST", CHAT, &JSON, "[]")),
        (400, "invalid_json".into())
    );
    assert_eq!(code(server.send("POST", CHAT, &JSON, "")), (400, "invalid_json".into()));
    assert_eq!(
        code(server.send("POST", CHAT, &JSON, "\u{1}\u{2}")),
        (400, "invalid_json".into())
    );
    assert_eq!(code(server.get("/v1/nothing")), (404, "not_found".into()));
    assert_eq!(code(server.get("/elsewhere?x=1")), (404, "not_found".into()));
    let get = server.get(CHAT);
    assert_eq!(get.header("allow"), Some("POST"));
    assert_eq!(get.error().1, "GET is not allowed on /v1/chat/completions; use POST");
    assert_eq!(code(get), (405, "method_not_allowed".into()));
    let delete = server.send("DELETE", "/v1/models/trace", &[], "");
    assert_eq!(
        delete.error().1,
        "DELETE is not allowed on /v1/models/trace; use GET or POST"
    );
    let many = server.post("/v1/completions", &json!({ "prompt": "x", "logprobs": 21 }));
    assert_eq!(many.error().2.as_deref(), Some("logprobs"));
    let post = server.post("/v1/models/mock", &json!({}));
    assert_eq!(post.error().1, "POST is not allowed on /v1/models/mock; use GET");
    assert_eq!(
        code(server.send("DELETE", "/v1/models", &[], "")),
        (405, "method_not_allowed".into())
    );
    for path in [CHAT, "/v1/embeddings", "/tokenize"] {
        let large = server.send("POST", path, &JSON, &"x".repeat(2000));
        assert_eq!(code(large), (413, "body_too_large".into()));
    }
    for method in ["GET", "DELETE"] {
        let path = if method == "GET" {
            "/v1/models/%ff"
        } else {
            "/v1/adapters/%ff"
        };
        assert_eq!(code(server.send(method, path, &[], "")), (400, "invalid_path".into()));
    }
    let deep = "[".repeat(900);
    assert_eq!(
        code(server.send("POST", CHAT, &JSON, &deep)),
        (400, "invalid_json".into())
    );
    let plain = [("Content-Type", "text/plain")];
    assert_eq!(
        code(server.send("POST", CHAT, &plain, "{}")),
        (415, "unsupported_media_type".into())
    );
}

#[test]
fn a_mistaken_path_is_told_the_right_one() {
    let server = start();
    for (path, near) in [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/v1/models", "/v1/models"),
        ("/v1/tokenize", "/tokenize"),
    ] {
        let (status, message, ..) = server.post(path, &json!({})).error();
        assert_eq!(status, 404);
        assert_eq!(message, format!("there is nothing at {path}; did you mean {near}?"));
    }
    let message = server.post("/v1/responses", &json!({})).error().1;
    assert!(message.contains("the Responses API is not implemented"), "{message}");
    assert_eq!(server.get("/v2/models").error().1, "there is nothing at /v2/models");
}

/// `gzip.compress(text.encode(), mtime=0)` of Python 3.11.
#[test]
fn a_body_may_be_compressed_with_gzip() {
    let mut setup = Setup::default();
    setup.server.max_body_bytes = 1000;
    let server = setup.start();
    let send = |coding: &str, body: &[u8]| {
        let headers = [("Content-Type", "application/json"), ("Content-Encoding", coding)];
        server.send_bytes("POST", "/detokenize", &headers, body)
    };
    let body = br#"{"tokens": [72, 105]}"#;
    let small: &[u8] = include_bytes!("fixtures/small.json.gz");
    assert_eq!(send("gzip", small).json()["prompt"], "Hi");
    assert_eq!(send("X-GZip", small).json()["prompt"], "Hi");
    assert_eq!(send("identity", body).json()["prompt"], "Hi");
    let code = |answer: crate::client::Answer| {
        let (status, message, _, code) = answer.error();
        (status, code.unwrap_or_default(), message)
    };
    // Half a megabyte of spaces in half a kilobyte.
    let (status, found, message) = code(send("gzip", include_bytes!("fixtures/large.json.gz")));
    assert_eq!((status, found.as_str()), (413, "body_too_large"), "{message}");
    assert!(message.contains("1000 bytes"), "{message}");
    for broken in [&small[..small.len() - 9], body] {
        let (status, found, message) = code(send("gzip", broken));
        assert_eq!((status, found.as_str()), (400, "unreadable_body"), "{message}");
    }
    for coding in ["br", "zstd", "deflate", "gzip, gzip"] {
        let (status, found, message) = code(send(coding, body));
        assert_eq!((status, found.as_str()), (415, "unsupported_content_encoding"));
        assert!(
            message.contains("`gzip` or not at all") && message.contains(coding),
            "{message}"
        );
    }
}

#[test]
fn json_is_read_as_clients_write_it() {
    let server = start();
    let read = |body: &str, content_type: &str| {
        let answer = server.send("POST", "/detokenize", &[("Content-Type", content_type)], body);
        (answer.status, answer.json()["prompt"].clone())
    };
    let hi = (200, json!("Hi"));
    assert_eq!(read("{\"tokens\": [72, 105]}", "application/json; charset=utf-8"), hi);
    assert_eq!(read("{\"tokens\": [72, 105]}", "application/JSON"), hi);
    assert_eq!(
        read("\u{feff}{\"tokens\": [72, 105]}", "application/json"),
        hi,
        "a byte order mark"
    );
    for broken in [
        "{\"tokens\": [1e999]}",
        "{\"tokens\": [NaN]}",
        "{\"x\": \"\\ud800\"}",
        "{\"tokens\": [72]} {}",
    ] {
        assert_eq!(read(broken, "application/json").0, 400, "{broken}");
    }
    // Whole numbers with a point, as some languages write all numbers.
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 2.0, "n": 1.0 });
    assert_eq!(server.post(CHAT, &body).json()["usage"]["completion_tokens"], 2);
}

#[test]
fn an_unknown_model_is_404_and_names_the_known_ones() {
    let server = start();
    let body = json!({ "model": "gpt-4", "messages": [{ "role": "user", "content": "Hi" }] });
    let (status, message, param, code) = server.post(CHAT, &body).error();
    assert_eq!(
        (status, param.as_deref(), code.as_deref()),
        (404, Some("model"), Some("model_not_found"))
    );
    assert_eq!(
        message,
        "the model `gpt-4` does not exist; there are: mock, first, second"
    );
}

#[test]
fn an_overflowing_context_is_400_before_anything_runs() {
    let mut setup = Setup::default();
    setup.engine.context = Some(40);
    let server = setup.start();
    let long = json!({ "messages": [{ "role": "user", "content": "x".repeat(100) }] });
    let (status, message, param, code) = server.post(CHAT, &long).error();
    assert_eq!(
        (status, param.as_deref(), code.as_deref()),
        (400, Some("messages"), Some("context_length_exceeded"))
    );
    // LiteLLM maps the error by OpenAI's words.
    let expected = "This model's maximum context length is 40 tokens. However, you requested 120 tokens (119 in the prompt, 1 in the completion)";
    assert!(message.starts_with(expected), "{message}");
    let greedy = json!({ "messages": [{ "role": "user", "content": "x" }], "max_tokens": 30, "stream": true });
    assert_eq!(
        server.post(CHAT, &greedy).error().3.as_deref(),
        Some("context_length_exceeded")
    );
    // Without a limit the answer gets what the prompt leaves.
    let fitting = json!({ "messages": [{ "role": "user", "content": "x" }], "ignore_eos": true });
    let body = server.post(CHAT, &fitting).json();
    assert_eq!(body["usage"]["total_tokens"], 40);
    assert_eq!(body["choices"][0]["finish_reason"], "length");
}

#[test]
fn a_prompt_longer_than_the_server_takes_is_400() {
    let mut setup = Setup::default();
    setup.server.max_prompt_tokens = Some(30);
    let server = setup.start();
    for (path, body, param) in [
        (
            CHAT,
            json!({ "messages": [{ "role": "user", "content": "x".repeat(20) }] }),
            "messages",
        ),
        ("/v1/completions", json!({ "prompt": "x".repeat(31) }), "prompt"),
        ("/tokenize", json!({ "prompt": "x".repeat(31) }), "prompt"),
    ] {
        let (status, message, found, code) = server.post(path, &body).error();
        assert_eq!(
            (status, found.as_deref(), code.as_deref()),
            (400, Some(param), Some("context_length_exceeded")),
            "{message}"
        );
    }
    assert_eq!(
        server
            .post("/v1/completions", &json!({ "prompt": "x".repeat(30) }))
            .status,
        200
    );
}

#[test]
fn a_full_server_is_429_while_others_run() {
    let mut setup = Setup::slow(5);
    setup.engine.max_batch = 1;
    setup.engine.max_waiting = 1;
    let server = setup.start();
    let endless = json!({ "messages": [{ "role": "user", "content": "Hi" }], "ignore_eos": true, "stream": true });
    let many = json!({ "messages": [{ "role": "user", "content": "Hi" }], "n": 3 });
    assert_eq!(
        server.post(CHAT, &many).error().2.as_deref(),
        Some("n"),
        "three never fit where two do"
    );
    let _running = server.stream(CHAT, &endless);
    let _waiting = server.stream(CHAT, &endless);
    wait_until("both are in", || server.engine.in_flight() == 2);
    let answer = server.post(CHAT, &endless);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let (status, _, _, code) = answer.error();
    assert_eq!((status, code.as_deref()), (429, Some("rate_limit_exceeded")));
    for (path, body) in [
        ("/v1/embeddings", json!({ "input": "Hi" })),
        ("/tokenize", json!({ "prompt": "Hi" })),
        ("/detokenize", json!({ "tokens": [72] })),
    ] {
        assert_eq!(server.post(path, &body).error().0, 429, "{path}");
    }
}

#[test]
fn a_failing_model_is_500_and_an_error_event_within_a_stream() {
    let server = start();
    let fatal = json!({ "prompt": "<|endoftext|>" });
    let (status, message, _, _) = server.post("/v1/completions", &fatal).error();
    assert_eq!(
        (status, message.as_str()),
        (500, "generation failed: the model panicked")
    );
    let events = server
        .stream("/v1/completions", &json!({ "prompt": "<|endoftext|>", "stream": true }))
        .events();
    let last = events.last().unwrap().1.strip_prefix("data: ").unwrap();
    let error = serde_json::from_str::<serde_json::Value>(last).unwrap();
    assert_eq!(error["error"]["type"], "server_error");
    assert_eq!(server.post("/v1/completions", &json!({ "prompt": "Hi\n" })).status, 200);
}
