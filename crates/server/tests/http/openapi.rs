//! The OpenAPI document against the server: its routes are there, and what they answer is what it says.

use serde_json::{Value, json};

use crate::client::{Setup, start};
use crate::schema::Document;

#[test]
fn every_route_of_the_document_is_there_and_takes_its_methods_only() {
    let server = start();
    let document = Document::of(&server);
    let routes: Vec<(&str, &str)> = document.paths().collect();
    assert!(routes.len() >= 13, "{routes:?}");
    for &(path, method) in &routes {
        let path = path.replace("{id}", "mock").replace("{name}", "mock");
        let answer = server.send(
            &method.to_uppercase(),
            &path,
            &[("Content-Type", "application/json")],
            "{}",
        );
        assert_ne!(answer.status, 405, "{method} {path}");
        assert!(
            !answer.body.contains("\"not_found\""),
            "{method} {path}: {}",
            answer.body
        );
        assert!(answer.status < 500, "{method} {path}: {}", answer.body);
        let answer = server.send("PUT", &path, &[], "");
        assert_eq!(answer.status, 405, "PUT {path}");
        document.named("Error", &answer.json()).unwrap();
    }
}

#[test]
fn answers_are_what_the_document_promises() {
    let server = start();
    let document = Document::of(&server);
    let hello = json!([{ "role": "user", "content": "Hi" }]);
    let add = json!([{ "type": "function", "function": { "name": "add" } }]);
    let call = json!({ "name": "add", "arguments": "{}", "parsed_arguments": {} });
    let sent_back = json!([
        { "role": "user", "content": "Hi", "type": "text" },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "a", "function": call }], "parsed": null, "audio": null },
        { "role": "tool", "tool_call_id": "a", "content": "1" },
        { "role": "assistant", "content": [{ "type": "refusal", "refusal": "No." }], "annotations": [], "tool_calls": [] },
        { "role": "user", "content": "Hi" },
    ]);
    for (path, body) in [
        ("/v1/chat/completions", json!({ "messages": hello })),
        (
            "/v1/chat/completions",
            json!({ "messages": hello, "n": 2, "logprobs": true, "top_logprobs": 2, "max_tokens": 9 }),
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": hello, "tools": add, "model": "second" }),
        ),
        (
            "/v1/completions",
            json!({ "prompt": ["a\n", [98, 10]], "logprobs": 2, "max_tokens": 9 }),
        ),
        (
            "/v1/completions",
            json!({ "prompt": "a\n", "echo": true, "logprobs": 2, "max_tokens": 0 }),
        ),
        ("/v1/chat/completions", json!({ "messages": sent_back })),
        ("/v1/embeddings", json!({ "input": ["a", "b"] })),
        ("/v1/embeddings", json!({ "input": "a", "encoding_format": "base64" })),
        ("/tokenize", json!({ "prompt": "a", "return_token_strs": true })),
        ("/tokenize", json!({ "messages": hello })),
        ("/detokenize", json!({ "tokens": [97] })),
    ] {
        document
            .request(path, &body)
            .unwrap_or_else(|why| panic!("{path} {body}: {why}"));
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 200, "{path} {body}: {}", answer.body);
        document
            .answer("post", path, &answer.json())
            .unwrap_or_else(|why| panic!("{path} {body}: {why}: {}", answer.body));
    }
    for path in ["/v1/models", "/health", "/openapi.json"] {
        document.answer("get", path, &server.get(path).json()).unwrap();
    }
    document
        .answer("get", "/v1/models/{id}", &server.get("/v1/models/first").json())
        .unwrap();
    for (path, body) in [
        ("/v1/chat/completions", json!({})),
        ("/tokenize", json!({ "prompts": 1 })),
    ] {
        document.named("Error", &server.post(path, &body).json()).unwrap();
    }
}

#[test]
fn old_paths_are_deprecated_and_still_answer() {
    let server = start();
    let document = server.get("/openapi.json").json();
    let deprecated = |path: &str, method: &str| document["paths"][path][method]["deprecated"].clone();
    assert_eq!(deprecated("/v1/routing/trace", "get"), true);
    assert_eq!(deprecated("/v1/routing/trace", "post"), true);
    assert_eq!(deprecated("/v1/router/decisions", "get"), Value::Null);
    assert_eq!(deprecated("/v1/models/trace", "post"), Value::Null);
    assert_eq!(
        server.get("/v1/routing/trace").json(),
        server.get("/v1/router/decisions").json()
    );
    let body = json!({ "prompt": "a" });
    let (status, message, ..) = server.post("/v1/models/trace", &body).error();
    assert_eq!(status, 400);
    assert!(message.contains("has no expert router to trace"), "{message}");
    assert_eq!(
        server.post("/v1/routing/trace", &body).json(),
        server.post("/v1/models/trace", &body).json()
    );
    // A model may be called `trace`, so its path still finds models only.
    let (status, message, ..) = server.get("/v1/models/trace").error();
    assert_eq!(status, 404);
    assert!(message.contains("`trace`"), "{message}");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains(r#"path="/v1/models/trace",status="404""#), "{metrics}");
}

#[test]
fn chunks_are_what_the_document_promises() {
    let server = start();
    let document = Document::of(&server);
    let hello = json!([{ "role": "user", "content": "Hi" }]);
    let usage = json!({ "include_usage": true });
    let add = json!([{ "type": "function", "function": { "name": "add" } }]);
    let chunks = |path: &str, body: &Value| server.stream(path, body).chunks();
    let mut chat = chunks(
        "/v1/chat/completions",
        &json!({ "messages": hello, "stream": true, "stream_options": usage, "logprobs": true, "n": 2 }),
    );
    chat.extend(chunks(
        "/v1/chat/completions",
        &json!({ "messages": hello, "stream": true, "tools": add, "model": "second" }),
    ));
    for chunk in chat {
        document
            .named("ChatCompletionChunk", &chunk)
            .unwrap_or_else(|why| panic!("{why}: {chunk}"));
    }
    let text = json!({ "prompt": "a\n", "stream": true, "stream_options": usage, "logprobs": 1 });
    for chunk in chunks("/v1/completions", &text) {
        document
            .named("Completion", &chunk)
            .unwrap_or_else(|why| panic!("{why}: {chunk}"));
    }
}

#[test]
fn the_document_needs_no_key_and_no_model() {
    let server = Setup {
        ready: false,
        ..Setup::default()
    }
    .start();
    let document = server.get("/openapi.json");
    assert_eq!(document.header("content-type"), Some("application/json"));
    assert_eq!(document.json()["openapi"], "3.1.0");
}
