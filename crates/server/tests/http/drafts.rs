//! Several specialists for one request: their drafts, the reply that is written from them, and what may go wrong between.

use std::time::Duration;

use serde_json::{Value, json};
use synapse_server::{MultiDomain, Swarm, SwarmLabel};

use crate::client::{Server, Setup, wait_until};
use crate::schema::Document;
use crate::support::{ADAPTER_WORDS, BASE_TOKENS, BASE_WORDS, CALL_WORDS, MockModel, Speech};

const CHAT: &str = "/v1/chat/completions";

/// `second` is the coordinator. Under it `!` is a little likelier than `&`, and far likelier than `~`: every request needs
/// several, and `first` comes before `third`, whatever their order in the list.
fn swarm() -> Swarm {
    let label = |label: &str, answer: &str, adapter: Option<&str>| SwarmLabel {
        label: label.to_owned(),
        answer: answer.to_owned(),
        adapter: adapter.map(str::to_owned),
    };
    Swarm {
        name: "synapse-swarm".to_owned(),
        coordinator: "second".to_owned(),
        system_prompt: "Route.".to_owned(),
        labels: vec![
            label("calls", "~~~~~~", Some("third")),
            label("rest", "zzzzzz", Some("fourth")),
            label("several", "!!!!!!", None),
            label("sums", "&&&&&&", Some("first")),
            label("sums too", "''''''", Some("first")),
        ],
        threshold: 0.3,
        multi_domain: Some(MultiDomain {
            label: "several".to_owned(),
            drafts: 2,
        }),
    }
}

/// Milliseconds of a step where a test has to see drafts at work: with four words each they last half a second, which nobody
/// misses who looks every two milliseconds, on a busy machine neither.
const SEEN: u64 = 120;

fn setup(milliseconds: u64) -> Setup {
    let mut setup = Setup {
        model: MockModel {
            delay: Duration::from_millis(milliseconds),
            ..MockModel::new(Speech::Script, 4)
        },
        ..Setup::default()
    };
    setup.server.swarm = Some(swarm());
    setup
}

fn ask(more: &Value) -> Value {
    let mut body =
        json!({ "model": "synapse-swarm", "messages": [{ "role": "user", "content": "Both?" }], "temperature": 0 });
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn content(chunks: &[Value]) -> String {
    let pieces = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    pieces.collect()
}

/// Tokens of a conversation with these messages, as the model reads it.
fn prompt_tokens(server: &Server, messages: &Value) -> u64 {
    let count = server.post("/tokenize", &json!({ "messages": messages })).json();
    count["count"].as_u64().unwrap()
}

fn metric(server: &Server, line: &str) -> bool {
    server.get("/metrics").body.lines().any(|found| found == line)
}

#[test]
fn specialists_draft_in_one_batch_and_the_base_writes_the_reply() {
    let server = setup(0).start();
    let document = Document::of(&server);
    let answer = server.post(CHAT, &ask(&json!({})));
    assert_eq!(answer.header("x-synapse-adapter"), Some("base"));
    let body = answer.json();
    document.answer("post", CHAT, &body).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], BASE_WORDS.concat());
    assert_eq!(body["model"], "synapse-swarm", "no pin leads to the same reply");
    let routing = &body["synapse"];
    assert_eq!(
        (&routing["adapter"], &routing["label"]),
        (&json!("base"), &json!("several"))
    );
    let drafts = routing["drafts"].as_array().unwrap();
    let said: Vec<(&str, &str)> = drafts
        .iter()
        .map(|draft| (draft["adapter"].as_str().unwrap(), draft["text"].as_str().unwrap()))
        .collect();
    // `z` comes before `~`.
    assert_eq!(said[0], ("first", ADAPTER_WORDS.concat().as_str()));
    assert_eq!(said[1], ("fourth", CALL_WORDS.concat().as_str()));
    assert_eq!(said.len(), 2);
    assert_eq!(drafts[0]["score"], routing["scores"]["sums"]);
    assert!(drafts.iter().all(|draft| draft["finish_reason"] == "stop"), "{routing}");

    // Both drafts ran together: some step decoded two sequences.
    assert!(metric(&server, r#"synapse_drafts_total{adapter="first"} 1"#));
    let metrics = server.get("/metrics").body;
    let alone = metrics
        .lines()
        .find(|line| line.starts_with("synapse_batch_sequences_bucket{le=\"1\"}"));
    let all = metrics
        .lines()
        .find(|line| line.starts_with("synapse_batch_sequences_count"));
    let last = |line: Option<&str>| line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(last(alone) < last(all), "{metrics}");

    // What is read and written is all there: the conversation once a draft, and once more with the drafts.
    let request = json!([{ "role": "user", "content": "Both?" }]);
    let with_drafts = json!([{ "role": "user", "content": format!(
        "Both?\n\nDraft by first:\n{}\n\nDraft by fourth:\n{}\n\nWrite the answer to the request from these drafts: keep what is \
         right, leave out what is wrong or said twice, and answer every part of the request.",
        ADAPTER_WORDS.concat(), CALL_WORDS.concat()
    ) }]);
    let usage = &body["usage"];
    assert_eq!(
        usage["prompt_tokens"],
        2 * prompt_tokens(&server, &request) + prompt_tokens(&server, &with_drafts)
    );
    let drafted: u64 = drafts.iter().filter_map(|draft| draft["tokens"].as_u64()).sum();
    assert!(drafted > 2);
    assert_eq!(usage["completion_tokens"], drafted + BASE_TOKENS as u64);

    let trace = server.get("/v1/router/decisions").json();
    document.answer("get", "/v1/router/decisions", &trace).unwrap();
    let kept = &trace["data"][0]["drafts"];
    assert_eq!(
        (&kept[0]["adapter"], &kept[1]["tokens"]),
        (&json!("first"), &drafts[1]["tokens"])
    );
    assert!(kept[0].get("text").is_none(), "what was said is the client's alone");
}

#[test]
fn a_stream_names_the_specialists_at_once_and_streams_the_reply() {
    let server = setup(0).start();
    let document = Document::of(&server);
    let body = ask(&json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let stream = server.stream(CHAT, &body);
    assert_eq!(stream.header("x-synapse-adapter"), Some("base"));
    let chunks = stream.chunks();
    for chunk in &chunks {
        document.named("ChatCompletionChunk", chunk).unwrap();
    }
    assert_eq!(content(&chunks), BASE_WORDS.concat());
    let (opening, first_token) = (&chunks[0]["synapse"]["drafts"], &chunks[1]["synapse"]["drafts"]);
    assert_eq!(opening[1]["adapter"], "fourth");
    assert!(opening[0].get("tokens").is_none(), "it is not written yet");
    assert_eq!(first_token[0]["text"], ADAPTER_WORDS.concat());
    assert!(chunks[2..].iter().all(|chunk| chunk.get("synapse").is_none()));
    let usage = &chunks.last().unwrap()["usage"];
    let whole = server.post(CHAT, &ask(&json!({}))).json();
    assert_eq!(usage["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert_eq!(usage["prompt_tokens"], whole["usage"]["prompt_tokens"]);
}

#[test]
fn what_a_request_says_of_its_answer_is_said_of_the_reply() {
    let server = setup(0).start();
    let multi_domain = server
        .post(CHAT, &ask(&json!({ "n": 3, "seed": 5, "stop": ["mock", "trade"] })))
        .json();
    let texts: Vec<&str> = multi_domain["choices"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|choice| choice["message"]["content"].as_str())
        .collect();
    assert_eq!(texts, ["Hello, this is a "; 3]);
    assert_eq!(multi_domain["synapse"]["drafts"][0]["text"], ADAPTER_WORDS.concat());
    assert!(
        metric(&server, r#"synapse_drafts_total{adapter="first"} 1"#),
        "once for all"
    );

    let cut = server.post(CHAT, &ask(&json!({ "max_tokens": 3 }))).json();
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    for draft in cut["synapse"]["drafts"].as_array().unwrap() {
        assert_eq!(
            (&draft["tokens"], &draft["finish_reason"]),
            (&json!(3), &json!("length"))
        );
    }
    assert_eq!(cut["usage"]["completion_tokens"], 9);

    let schema = json!({ "type": "object", "properties": { "a": { "enum": [1] } }, "required": ["a"], "additionalProperties": false });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "strict": true, "schema": schema } });
    let formed = server.post(CHAT, &ask(&json!({ "response_format": format }))).json();
    let text = formed["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!({ "a": 1 }));
    assert_eq!(formed["synapse"]["drafts"][0]["text"], ADAPTER_WORDS.concat());

    // The tools are shown to the reply alone, and only it may call them.
    let tools = json!([{ "type": "function", "function": { "name": "add" } }]);
    let tokens = |model: &str, more: &Value| {
        let mut body = ask(more);
        body["model"] = model.into();
        server.post(CHAT, &body).json()["usage"]["prompt_tokens"]
            .as_u64()
            .unwrap()
    };
    let (none, tools) = (json!({}), json!({ "tools": tools }));
    let shown_once = tokens("synapse-swarm:base", &tools) - tokens("synapse-swarm:base", &none);
    assert_eq!(
        tokens("synapse-swarm", &tools) - tokens("synapse-swarm", &none),
        shown_once
    );

    // What is wrong with it is said before anything is drafted.
    for (wrong, param) in [
        (json!({ "temperature": 9, "stream": true }), "temperature"),
        (json!({ "logit_bias": { "99999": 1 }, "stream": true }), "logit_bias"),
        (json!({ "max_tokens": 100_000, "stream": true }), "messages"),
    ] {
        let (status, message, named, _) = server.post(CHAT, &ask(&wrong)).error();
        assert_eq!((status, named.as_deref()), (400, Some(param)), "{message}");
    }
}

#[test]
fn where_the_context_has_no_room_for_drafts_the_base_answers_alone() {
    let answer = |context| {
        let mut setup = setup(0);
        setup.engine.context = Some(context);
        let server = setup.start();
        let answer = server.post(CHAT, &ask(&json!({ "max_tokens": 40 }))).json();
        assert_eq!(answer["choices"][0]["message"]["content"], BASE_WORDS.concat());
        (answer, server)
    };
    // This model reads its own words as single letters, several times the tokens that it said: they are cut to their share.
    let (narrow, _server) = answer(300);
    assert_eq!(narrow["synapse"]["drafts"].as_array().unwrap().len(), 2);
    let (answer, server) = answer(240);
    assert_eq!(
        (&answer["synapse"]["label"], &answer["model"]),
        (&json!("several"), &json!("synapse-swarm:base"))
    );
    assert!(answer["synapse"].get("drafts").is_none());
    assert!(
        server.get("/v1/router/decisions").json()["data"][0]
            .get("drafts")
            .is_none()
    );
}

#[test]
fn a_request_takes_the_places_of_its_drafts_and_its_answers_at_once() {
    let mut setup = setup(SEEN);
    (setup.engine.max_batch, setup.engine.max_waiting) = (2, 2);
    let server = setup.start();
    let (status, message, param, _) = server.post(CHAT, &ask(&json!({ "n": 3 }))).error();
    assert_eq!((status, param.as_deref()), (400, Some("n")));
    assert!(message.contains("plus the swarm's drafts is 5"), "{message}");
    let json_type = [("Content-Type", "application/json")];
    let first = server.open("POST", CHAT, &json_type, &ask(&json!({ "n": 2 })).to_string());
    wait_until("its places are taken", || server.engine.in_flight() == 4);
    assert_eq!(server.post(CHAT, &ask(&json!({}))).error().0, 429);
    // Nobody could take the reply's places while the drafts were made.
    assert_eq!(first.finish().status, 200);
}

#[test]
fn a_client_that_leaves_ends_drafts_and_reply() {
    let server = setup(SEEN).start();
    let json_type = [("Content-Type", "application/json")];
    let drafting = || server.engine.load().running == 2;
    let free = || server.engine.in_flight() == 0;
    // While drafts are made, streamed and whole.
    let stream = server.stream(CHAT, &ask(&json!({ "stream": true })));
    wait_until("the drafts run", drafting);
    stream.abandon_after_first_chunk();
    wait_until("the stream's places are free", free);
    let whole = server.open("POST", CHAT, &json_type, &ask(&json!({})).to_string());
    wait_until("the drafts run", drafting);
    drop(whole);
    wait_until("the request's places are free", free);
    assert!(metric(&server, r#"synapse_answers_total{reason="cancelled"} 4"#));
    // While the reply is written.
    let endless = ask(&json!({ "stream": true, "ignore_eos": true, "max_tokens": 2000 }));
    server.stream(CHAT, &endless).abandon_after("Hello");
    wait_until("the reply's place is free", free);
    assert!(metric(&server, r#"synapse_answers_total{reason="cancelled"} 5"#));
}

#[test]
fn a_server_that_stops_finishes_a_request_it_is_drafting_for() {
    let mut server = setup(SEEN).start();
    let stream = server.stream(CHAT, &ask(&json!({ "stream": true })));
    let json_type = [("Content-Type", "application/json")];
    let whole = server.open("POST", CHAT, &json_type, &ask(&json!({})).to_string());
    wait_until("both draft", || server.engine.load().running >= 3);
    server.shut_down();
    wait_until("the server drains", || server.get("/health").status == 503);
    assert_eq!(content(&stream.chunks()), BASE_WORDS.concat());
    assert_eq!(
        whole.finish().json()["choices"][0]["message"]["content"],
        BASE_WORDS.concat()
    );
    server.ended().unwrap();
}

#[test]
fn a_swarm_that_asks_nobody_for_drafts_answers_with_the_base() {
    let mut setup = setup(0);
    setup.server.swarm = Some(Swarm {
        multi_domain: None,
        ..swarm()
    });
    let server = setup.start();
    let answer = server.post(CHAT, &ask(&json!({}))).json();
    assert_eq!(answer["usage"]["completion_tokens"], BASE_TOKENS as u64);
    assert_eq!(answer["model"], "synapse-swarm:base");
    assert!(answer["synapse"].get("drafts").is_none());
}
