//! Streams: real ones, in OpenAI's order of chunks, which end when nobody listens.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Setup, start, wait_until};
use crate::support::{BASE_TOKENS, BASE_WORDS};

fn hello(more: &Value) -> Value {
    let mut body = json!({ "model": "mock", "stream": true, "messages": [{ "role": "user", "content": "Hi" }] });
    body.as_object_mut()
        .unwrap()
        .append(&mut more.as_object().unwrap().clone());
    body
}

#[test]
fn chunks_come_in_openais_order() {
    let server = start();
    let stream = server.stream(
        "/v1/chat/completions",
        &hello(&json!({ "stream_options": { "include_usage": true } })),
    );
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.header("cache-control"), Some("no-cache"));
    let chunks = stream.chunks();
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({ "role": "assistant", "content": "" })
    );
    let (usage, rest) = chunks.split_last().unwrap();
    let (finish, deltas) = rest.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], BASE_TOKENS);
    assert_eq!(
        (&finish["choices"][0]["delta"], &finish["choices"][0]["finish_reason"]),
        (&json!({}), &json!("stop"))
    );
    let text: String = deltas
        .iter()
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap())
        .collect();
    assert_eq!(text, BASE_WORDS.concat());
    for chunk in rest {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((&chunk["id"], &chunk["created"]), (&usage["id"], &usage["created"]));
        assert!(chunk["usage"].is_null() && chunk.get("usage").is_some());
    }
    for chunk in &deltas[1..] {
        assert!(
            chunk["choices"][0]["delta"].get("role").is_none(),
            "the role is repeated"
        );
        assert!(
            !chunk["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap()
                .contains('\u{fffd}')
        );
    }
}

#[test]
fn usage_comes_only_if_asked_for() {
    let server = start();
    let chunks = server.stream("/v1/chat/completions", &hello(&json!({}))).chunks();
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[test]
fn the_first_token_arrives_long_before_the_last() {
    let server = Setup::slow(20).start();
    let events = server.stream("/v1/chat/completions", &hello(&json!({}))).events();
    let contents: Vec<_> = events
        .iter()
        .filter(|(_, event)| event.contains(r#""content":"#))
        .collect();
    // 0 carries the role; from 1 on each is a step of 20 ms.
    let span = contents.last().unwrap().0 - contents[1].0;
    assert!(span > Duration::from_millis(150), "all tokens arrived within {span:?}");
    for pair in contents[1..].windows(2) {
        let gap = pair[1].0 - pair[0].0;
        assert!(
            gap > Duration::from_millis(10),
            "two tokens of different steps arrived {gap:?} apart"
        );
    }
}

#[test]
fn several_answers_interleave_and_each_finishes_once() {
    let server = start();
    let chunks = server
        .stream("/v1/chat/completions", &hello(&json!({ "n": 3 })))
        .chunks();
    for index in 0..3 {
        let own: Vec<&Value> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0])
            .filter(|choice| choice["index"] == index)
            .collect();
        let text: String = own
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(text, BASE_WORDS.concat());
        assert_eq!(
            own.iter().filter(|choice| !choice["finish_reason"].is_null()).count(),
            1
        );
    }
}

#[test]
fn log_probabilities_stream_in_the_same_shape() {
    let server = start();
    let body = json!({ "logprobs": true, "top_logprobs": 1, "stop": ["s a m"] });
    let chunks = server.stream("/v1/chat/completions", &hello(&body)).chunks();
    let entries: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    let tokens: Vec<&str> = entries.iter().map(|entry| entry["token"].as_str().unwrap()).collect();
    assert_eq!(
        tokens,
        ["Hello", ",", " this", " is"],
        "tokens of the stop string stay back, its border's token is cut"
    );
    assert!(
        entries
            .iter()
            .all(|entry| entry["top_logprobs"].as_array().unwrap().len() == 1)
    );
}

#[test]
fn a_silent_stream_sends_comments() {
    let mut setup = Setup::slow(300);
    setup.server.keep_alive = Duration::from_millis(50);
    let server = setup.start();
    let events = server
        .stream("/v1/chat/completions", &hello(&json!({ "max_tokens": 2 })))
        .events();
    assert!(
        events.iter().filter(|(_, event)| event == ": keep-alive").count() >= 2,
        "{events:?}"
    );
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let mut setup = Setup::slow(5);
    setup.engine.max_batch = 1;
    let server = setup.start();
    let endless = |stream| json!({ "stream": stream, "messages": [{ "role": "user", "content": "Hi" }], "ignore_eos": true, "max_tokens": 3000 });
    // While decoding.
    server
        .stream("/v1/chat/completions", &endless(true))
        .abandon_after_first_chunk();
    wait_until("the stream's place is free", || server.engine.in_flight() == 0);
    // While waiting for a whole answer, running and queued.
    let json_type = [("Content-Type", "application/json")];
    let running = server.open("POST", "/v1/chat/completions", &json_type, &endless(false).to_string());
    wait_until("the request runs", || server.engine.in_flight() == 1);
    let queued = server.open("POST", "/v1/chat/completions", &json_type, &endless(false).to_string());
    wait_until("the request waits", || server.engine.in_flight() == 2);
    drop(queued);
    wait_until("the queued request's place is free", || server.engine.in_flight() == 1);
    drop(running);
    wait_until("the running request's place is free", || server.engine.in_flight() == 0);
}
