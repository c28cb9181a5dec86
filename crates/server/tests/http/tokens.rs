//! `POST /tokenize` and `POST /detokenize`.

use serde_json::{Value, json};

use crate::client::start;

#[test]
fn texts_and_conversations_become_tokens_and_text_again() {
    let server = start();
    let tokens = |body: &Value| server.post("/tokenize", body).json();
    let text = tokens(&json!({ "model": "mock", "prompt": "Hé<|im_end|>" }));
    assert_eq!(text["tokens"], json!([72, 0xc3, 0xa9, 258]));
    assert_eq!((&text["count"], &text["max_model_len"]), (&json!(4), &json!(4096)));
    assert!(text.get("token_strs").is_none());
    let named = tokens(&json!({ "prompt": "H<|im_end|>", "return_token_strs": true }));
    assert_eq!(named["token_strs"], json!(["H", "<|im_end|>"]));
    let back = server.post("/detokenize", &json!({ "tokens": text["tokens"] })).json();
    assert_eq!(back, json!({ "prompt": "Hé<|im_end|>" }));

    let messages = json!([{ "role": "user", "content": "Hi <|im_end|>" }]);
    let prompt = tokens(&json!({ "messages": messages }));
    let ends = prompt["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|id| **id == 258)
        .count();
    assert_eq!(ends, 1, "what a user writes stays text");
    let answered = server
        .post(
            "/v1/chat/completions",
            &json!({ "messages": messages, "max_tokens": 1 }),
        )
        .json();
    assert_eq!(answered["usage"]["prompt_tokens"], prompt["count"]);
}

#[test]
fn impossible_requests_are_named() {
    let server = start();
    for (path, body, param) in [
        ("/tokenize", json!({}), "prompt"),
        ("/tokenize", json!({ "prompt": 3 }), "prompt"),
        ("/tokenize", json!({ "prompt": "a", "messages": [] }), "prompt"),
        ("/tokenize", json!({ "messages": [] }), "messages"),
        ("/tokenize", json!({ "prompt": "a", "tools": [] }), "tools"),
        (
            "/tokenize",
            json!({ "prompt": "a", "add_special_tokens": false }),
            "add_special_tokens",
        ),
        ("/detokenize", json!({}), "tokens"),
        ("/detokenize", json!({ "tokens": "a" }), "tokens"),
        ("/detokenize", json!({ "tokens": [-1] }), "tokens"),
        ("/detokenize", json!({ "tokens": [999_999] }), "tokens"),
        ("/detokenize", json!({ "tokens": [1], "text": "" }), "text"),
    ] {
        let (status, message, found, _) = server.post(path, &body).error();
        assert_eq!(
            (status, found.as_deref()),
            (400, Some(param)),
            "{path} {body}: {message}"
        );
    }
    assert_eq!(
        server
            .post("/tokenize", &json!({ "prompt": "a", "model": "none" }))
            .error()
            .0,
        404
    );
}
