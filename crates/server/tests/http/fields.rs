//! The table of fields against the server: each does what its entry says.

use serde_json::{Value, json};
use synapse_server::fields::{CHAT, COMPLETIONS, DETOKENIZE, EMBEDDINGS, Field, Support, TOKENIZE};

use crate::client::{Server, start};
use crate::schema::Document;

/// A request with one field set.
fn with(path: &str, name: &str, value: &Value) -> Value {
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let mut body = match path {
        "/v1/completions" => json!({ "prompt": "Hi\n", "max_tokens": 2 }),
        "/v1/embeddings" => json!({ "input": "Hi" }),
        "/tokenize" if !["messages", "tools", "chat_template_kwargs"].contains(&name) => json!({ "prompt": "Hi" }),
        "/tokenize" => json!({ "messages": messages }),
        "/detokenize" => json!({ "tokens": [72] }),
        _ => json!({ "messages": messages, "max_tokens": 2 }),
    };
    match name {
        "top_logprobs" => body["logprobs"] = true.into(),
        "stream_options" => body["stream"] = true.into(),
        _ => {}
    }
    body[name] = value.clone();
    body
}

/// A value that a supported field takes.
fn example(path: &str, name: &str) -> Value {
    match name {
        "messages" => json!([{ "role": "user", "content": "Hi" }]),
        "prompt" | "input" => json!("Hi\n"),
        "tokens" => json!([72, 105]),
        "encoding_format" => json!("base64"),
        "dimensions" => json!(3),
        "response_format" => json!({ "type": "text" }),
        "tools" => json!([{ "type": "function", "function": { "name": "add", "parameters": {} } }]),
        "tool_choice" => json!("none"),
        "model" => json!("mock"),
        "logprobs" if path == "/v1/completions" => json!(1),
        "best_of" => json!(1),
        "logprobs" | "stream" | "echo" | "ignore_eos" | "parallel_tool_calls" | "return_token_strs" => json!(true),
        "stop" => json!(["x"]),
        "logit_bias" => json!({ "65": -5 }),
        "chat_template_kwargs" => json!({ "enable_thinking": false }),
        "stream_options" => json!({ "include_usage": true, "include_obfuscation": false }),
        "max_tokens" | "max_completion_tokens" | "top_logprobs" | "n" | "top_k" | "seed" => {
            json!(2)
        }
        "temperature" | "top_p" | "min_p" | "presence_penalty" | "frequency_penalty" | "repetition_penalty" => {
            json!(0.5)
        }
        _ => panic!("no example for the supported field `{name}`"),
    }
}

#[track_caller]
fn assert_refused(server: &Server, path: &str, name: &str, value: &Value) {
    let (status, message, param, _) = server.post(path, &with(path, name, value)).error();
    assert_eq!(
        (status, param.as_deref()),
        (400, Some(name)),
        "{path} {name} = {value}: {message}"
    );
}

fn check_table(path: &str, table: &[Field]) {
    let server = start();
    // What the server takes the document admits, and what it refuses by its kind the document does not.
    let document = Document::of(&server);
    for field in table {
        let name = field.name;
        let accept = |value: &Value| {
            let body = with(path, name, value);
            let answer = server.post(path, &body);
            assert_eq!(answer.status, 200, "{path} {name} = {value}: {}", answer.body);
            assert_eq!(document.request(path, &body), Ok(()), "{path} {name} = {value}");
        };
        let assert_refused = |server: &Server, path: &str, name: &str, value: &Value| {
            assert_refused(server, path, name, value);
            let admitted = document.request(path, &with(path, name, value));
            assert!(admitted.is_err(), "{path} {name} = {value} is in the document");
        };
        match field.support {
            Support::Supported(_) => {
                accept(&example(path, name));
                assert_refused(&server, path, name, &wrong(name));
            }
            Support::WithoutEffect(reason) => {
                accept(&json!("anything"));
                assert!(!reason.is_empty());
            }
            Support::Only(values, reason) => {
                values
                    .iter()
                    .for_each(|value| accept(&serde_json::from_str(value).unwrap()));
                assert_refused(&server, path, name, &json!("something else"));
                assert!(!reason.is_empty());
            }
            Support::Refused(reason) => {
                assert_refused(&server, path, name, &json!({}));
                assert!(!reason.is_empty());
            }
        }
        if !["messages", "prompt", "input", "tokens"].contains(&name) {
            accept(&Value::Null);
        }
    }
    let mut names: Vec<&str> = table.iter().map(|field| field.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a field stands in the table twice");
}

/// A value that no supported field takes.
fn wrong(name: &str) -> Value {
    if name == "model" { json!(5) } else { json!(-7.5e30) }
}

#[test]
fn every_chat_field_does_what_its_entry_says() {
    check_table("/v1/chat/completions", CHAT);
}

#[test]
fn every_completions_field_does_what_its_entry_says() {
    check_table("/v1/completions", COMPLETIONS);
}

#[test]
fn every_other_field_does_what_its_entry_says() {
    check_table("/v1/embeddings", EMBEDDINGS);
    check_table("/tokenize", TOKENIZE);
    check_table("/detokenize", DETOKENIZE);
}

#[test]
fn unknown_fields_are_named_with_the_nearest_known_one() {
    let server = start();
    let body = with("/v1/chat/completions", "temprature", &json!(0.5));
    let (status, message, param, code) = server.post("/v1/chat/completions", &body).error();
    assert_eq!(
        (status, param.as_deref(), code.as_deref()),
        (400, Some("temprature"), Some("unknown_parameter"))
    );
    assert!(message.contains("did you mean `temperature`?"), "{message}");
    // null is the same as leaving a field out.
    let body = with("/v1/chat/completions", "guided_json", &json!(null));
    assert_eq!(server.post("/v1/chat/completions", &body).status, 200);
}

#[test]
fn values_outside_their_range_are_named() {
    let server = start();
    for (name, value) in [
        ("temperature", json!(2.5)),
        ("temperature", json!("hot")),
        ("top_p", json!(-0.1)),
        ("min_p", json!(1.1)),
        ("top_k", json!(-1)),
        ("presence_penalty", json!(3)),
        ("frequency_penalty", json!(-3)),
        ("repetition_penalty", json!(0)),
        ("max_tokens", json!(0)),
        ("max_tokens", json!(1.5)),
        ("max_completion_tokens", json!(0)),
        ("max_completion_tokens", json!(-4)),
        ("n", json!(0)),
        ("n", json!(1000)),
        ("top_logprobs", json!(21)),
        ("seed", json!(0.5)),
        ("stop", json!([1])),
        ("stop", json!([""])),
        ("stop", json!(vec!["x"; 17])),
        ("logit_bias", json!({ "x": 1 })),
        ("logit_bias", json!({ "+5": 1 })),
        ("logit_bias", json!({ "05": 1 })),
        ("logit_bias", json!({ "1": 101 })),
        ("logit_bias", json!({ "99999999": 1 })),
        ("stream", json!("yes")),
        ("stream_options", json!(true)),
    ] {
        let (status, message, param, _) = server
            .post("/v1/chat/completions", &with("/v1/chat/completions", name, &value))
            .error();
        let param = param.unwrap();
        assert!(
            status == 400 && (param == name || param.starts_with(&format!("{name}["))),
            "{name} = {value}: {param}: {message}"
        );
    }
    let contradiction =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 1, "max_completion_tokens": 2 });
    assert_eq!(
        server.post("/v1/chat/completions", &contradiction).error().2.as_deref(),
        Some("max_tokens")
    );
    let alone = json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream_options": {} });
    assert_eq!(
        server.post("/v1/chat/completions", &alone).error().2.as_deref(),
        Some("stream_options")
    );
    let alone = json!({ "messages": [{ "role": "user", "content": "Hi" }], "top_logprobs": 1 });
    assert_eq!(
        server.post("/v1/chat/completions", &alone).error().2.as_deref(),
        Some("top_logprobs")
    );
}
