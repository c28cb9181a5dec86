//! `GET /metrics`.

use serde_json::json;

use crate::client::{Server, Setup, start, wait_until};
use crate::support::BASE_TOKENS;

/// The value of a line, by everything before it.
#[track_caller]
fn value(server: &Server, line: &str) -> f64 {
    let text = server.get("/metrics").body;
    let found = text
        .lines()
        .find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
    found
        .unwrap_or_else(|| panic!("{line} is not in\n{text}"))
        .parse()
        .unwrap()
}

#[test]
fn answers_tokens_and_times_are_counted() {
    let server = start();
    let hello = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    for _ in 0..2 {
        assert_eq!(server.post("/v1/chat/completions", &hello).status, 200);
    }
    server.post("/v1/chat/completions", &json!({}));
    server.get("/v1/models/first");
    server.get("/nowhere/at?all=1");
    let metrics = server.get("/metrics");
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    for (line, expected) in [
        (
            "synapse_http_requests_total{path=\"/v1/chat/completions\",status=\"200\"}",
            2,
        ),
        (
            "synapse_http_requests_total{path=\"/v1/chat/completions\",status=\"400\"}",
            1,
        ),
        (
            "synapse_http_requests_total{path=\"/v1/models/{id}\",status=\"200\"}",
            1,
        ),
        ("synapse_http_requests_total{path=\"other\",status=\"404\"}", 1),
        ("synapse_answers_total{reason=\"stop\"}", 2),
        ("synapse_prompt_tokens_total", 2 * 21),
        ("synapse_generated_tokens_total", 2 * BASE_TOKENS),
        ("synapse_time_to_first_token_seconds_count", 2),
        ("synapse_time_to_first_token_seconds_bucket{le=\"+Inf\"}", 2),
        ("synapse_inter_token_seconds_count", 2 * (BASE_TOKENS - 1)),
        ("synapse_queue_seconds_count", 2),
        ("synapse_batch_sequences_count", 2 * BASE_TOKENS),
        ("synapse_sequences_running", 0),
        ("synapse_sequences_waiting", 0),
        ("synapse_kv_cache_tokens_limit", 16 * 4096),
    ] {
        assert_eq!(value(&server, line), expected as f64, "{line}");
    }
}

#[test]
fn gauges_follow_the_load_and_cancelled_answers_count() {
    let mut setup = Setup::slow(5);
    setup.engine.max_batch = 1;
    let server = setup.start();
    let endless = json!({ "messages": [{ "role": "user", "content": "Hi" }], "ignore_eos": true, "stream": true });
    let running = server.stream("/v1/chat/completions", &endless);
    let waiting = server.stream("/v1/chat/completions", &endless);
    wait_until("one runs, one waits, and keys and values are held", || {
        value(&server, "synapse_sequences_running") == 1.0
            && value(&server, "synapse_sequences_waiting") == 1.0
            && value(&server, "synapse_kv_cache_tokens") > 20.0
    });
    drop((running, waiting));
    wait_until("nothing runs", || {
        value(&server, "synapse_sequences_running") == 0.0 && value(&server, "synapse_kv_cache_tokens") == 0.0
    });
    assert!(value(&server, "synapse_answers_total{reason=\"cancelled\"}") >= 1.0);
}

#[test]
fn metrics_are_there_before_the_model() {
    let server = Setup {
        ready: false,
        ..Setup::default()
    }
    .start();
    assert_eq!(server.get("/health").status, 503);
    assert_eq!(
        value(&server, "synapse_http_requests_total{path=\"/health\",status=\"503\"}"),
        1.0
    );
}
