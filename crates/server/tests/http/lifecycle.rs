//! Loading, draining and stopping.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use synapse_engine::{Engine, EngineOptions};
use synapse_server::{ServerError, ServerOptions, ServerState};

use crate::client::{Setup, start, wait_until};
use crate::support::{self, BASE_WORDS, MockModel, Speech};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_loading_server_says_so_until_it_is_ready() {
    let server = Setup {
        ready: false,
        ..Setup::default()
    }
    .start();
    let health = server.get("/health");
    assert_eq!(health.header("retry-after"), Some("1"));
    let (status, _, _, code) = health.error();
    assert_eq!((status, code.as_deref()), (503, Some("loading")));
    let hello = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    assert_eq!(server.post(CHAT, &hello).error().0, 503);
    assert_eq!(server.get("/v1/models").error().0, 503);
    assert_eq!(server.get("/").status, 200, "the page waits by itself");
    server.state.ready(Arc::clone(&server.engine)).unwrap();
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    assert_eq!(server.post(CHAT, &hello).status, 200);
}

#[test]
fn stopping_finishes_what_was_accepted_and_refuses_the_rest() {
    let mut server = Setup::slow(20).start();
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true });
    let stream = server.stream(CHAT, &body);
    let whole = server.open("POST", CHAT, &[], &json!({ "messages": body["messages"] }).to_string());
    wait_until("both are accepted", || server.engine.in_flight() == 2);
    server.shut_down();
    wait_until("the server drains", || server.get("/health").status == 503);
    let (status, _, _, code) = server.post(CHAT, &body).error();
    assert_eq!((status, code.as_deref()), (503, Some("draining")));
    let text: String = stream
        .chunks()
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, BASE_WORDS.concat());
    assert_eq!(
        whole.finish().json()["choices"][0]["message"]["content"],
        BASE_WORDS.concat()
    );
    server.ended().unwrap();
    assert!(
        std::net::TcpStream::connect(server.address).is_err(),
        "the socket is still open"
    );
}

#[test]
fn draining_has_a_deadline() {
    let mut setup = Setup::slow(5);
    setup.server.drain = Duration::from_millis(100);
    let mut server = setup.start();
    let endless = json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true, "ignore_eos": true });
    let _stream = server.stream(CHAT, &endless);
    server.shut_down();
    let error = server.ended().unwrap_err();
    assert!(
        matches!(error, ServerError::DrainDeadline { unfinished: 1, .. }),
        "{error}"
    );
}

#[test]
fn an_idle_server_stops_at_once() {
    let mut server = start();
    // A connection kept open by a client must not hold it up.
    let _idle = std::net::TcpStream::connect(server.address).unwrap();
    server.shut_down();
    server.ended().unwrap();
}

#[test]
fn two_models_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = MockModel::new(Speech::Script, 1);
    let adapters = model.named_adapters();
    let engine = Engine::start(
        Arc::new(model),
        support::chat(folder.path()),
        adapters,
        EngineOptions::default(),
    );
    let error = ServerState::new(ServerOptions::new("first"), Arc::new(engine)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an adapter and the base model are both called `first`; rename one of them"
    );
}

#[test]
fn a_client_that_trickles_holds_no_connection_for_ever() {
    let mut setup = Setup::slow(100);
    setup.server.read_timeout = Duration::from_millis(300);
    let server = setup.start();
    // A line of the head, or a byte of the body, every 50 ms: without a limit it would go on for ever.
    let trickle = |beginning: &str, more: &str| {
        let mut socket = TcpStream::connect(server.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        write!(socket, "{beginning}").unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            match socket.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answer.extend(&buffer[..count]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
                    // The server may have closed it meanwhile; the next read says so.
                    let _ = socket.write_all(more.as_bytes());
                }
                Err(_) => break,
            }
        }
        String::from_utf8(answer).unwrap()
    };
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    assert!(!trickle(&head, "X-More: x\r\n").contains(" 200 "));
    let answer = trickle(&format!("{head}Content-Length: 100000\r\n\r\n{{"), " ");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.contains("\"code\":\"body_timeout\"") && answer.contains("within 0.3 s"),
        "{answer}"
    );
    // Idle from the beginning, or between two requests.
    assert_eq!(trickle("", ""), "");
    // An answer may take longer than a request.
    let hello = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let answer = server.post(CHAT, &hello).json();
    assert_eq!(answer["choices"][0]["message"]["content"], BASE_WORDS.concat());
}
