//! `serve` over a real port, spoken to in raw HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use crate::support::Root;

/// A running server that is stopped when dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    pub(crate) fn start(root: &Root, arguments: &[&str]) -> Self {
        let mut all = vec!["serve"];
        all.extend(arguments);
        all.extend(["--port", "0"]);
        let mut child = root.train(&all).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            line.unwrap()
                .split_once("http://")
                .map(|(_, address)| address.trim().to_owned())
        });
        let address = address.expect("the server says where it listens");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Status line and body of one request.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        (
            status,
            text.split_once("\r\n\r\n")
                .map(|(_, body)| body.to_owned())
                .unwrap_or_default(),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_folder_is_served_plain_and_streamed() {
    let root = Root::new();
    let base = root.base();
    let server = Server::start(&root, &[base.to_str().unwrap()]);
    assert_eq!(server.request("GET", "/health", "").0, 200);
    let (status, models) = server.request("GET", "/v1/models", "");
    assert!(status == 200 && models.contains("\"tiny\""), "{models}");
    let body =
        r#"{"model": "tiny", "messages": [{"role": "user", "content": "2 + 3?"}], "max_tokens": 8, "temperature": 0}"#;
    let (status, answer) = server.request("POST", "/v1/chat/completions", body);
    assert!(
        status == 200 && answer.contains("\"chat.completion\"") && answer.contains("\"finish_reason\""),
        "{answer}"
    );
    let (status, stream) = server.request(
        "POST",
        "/v1/chat/completions",
        &body.replace("\"temperature\"", "\"stream\": true, \"temperature\""),
    );
    assert!(
        status == 200 && stream.matches("data: ").count() > 2 && stream.contains("data: [DONE]"),
        "{stream}"
    );
    let (status, refused) = server.request(
        "POST",
        "/v1/chat/completions",
        &body.replace("\"max_tokens\"", "\"max_tokenz\": 1, \"max_tokens\""),
    );
    assert!(status == 400 && refused.contains("max_tokenz"), "{refused}");
    assert_eq!(
        server
            .request("POST", "/v1/chat/completions", &body.replace("tiny", "huge"))
            .0,
        404
    );
    assert!(server.request("GET", "/", "").1.contains("<html"));
}
