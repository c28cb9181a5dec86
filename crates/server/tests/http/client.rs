//! A server on a loopback port, and the least HTTP client that shows what goes over the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use synapse_engine::{Engine, EngineOptions};
use synapse_server::{ServerError, ServerOptions, ServerState, serve};
use synapse_tokenizer::ChatTokenizer;
use tokio::sync::oneshot;

use crate::adapters::Numbers;
use crate::support::{self, MockModel, Speech};

/// A running server. Dropping it ends its runtime.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Arc<Engine>,
    pub(crate) state: ServerState,
    shutdown: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<Result<(), ServerError>>>,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

/// What a server in a test is made of.
pub(crate) struct Setup {
    pub(crate) model: MockModel,
    pub(crate) engine: EngineOptions,
    pub(crate) server: ServerOptions,
    /// Whether the engine is handed over before the server starts.
    pub(crate) ready: bool,
    /// A chat template in place of the usual one.
    pub(crate) template: Option<&'static str>,
}

impl Default for Setup {
    /// A model called `mock` with the adapters `first` and `second`, speaking from its script.
    fn default() -> Self {
        Self {
            model: MockModel::new(Speech::Script, 2),
            engine: EngineOptions::default(),
            server: ServerOptions::new("mock"),
            ready: true,
            template: None,
        }
    }
}

impl Setup {
    /// Each step takes this long.
    pub(crate) fn slow(milliseconds: u64) -> Self {
        let model = MockModel {
            delay: Duration::from_millis(milliseconds),
            ..MockModel::new(Speech::Script, 2)
        };
        Self {
            model,
            ..Self::default()
        }
    }

    pub(crate) fn start(self) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut chat = support::chat(folder.path());
        if let Some(template) = self.template {
            std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
            chat = ChatTokenizer::open(folder.path()).unwrap();
        }
        let adapters = self.model.named_adapters();
        let source = Numbers(self.model.adapters.clone());
        let engine = Engine::start(Arc::new(self.model), chat, adapters, self.engine);
        let engine = Arc::new(engine.with_adapter_source(source));
        let state = ServerState::loading(self.server);
        if self.ready {
            state.ready(Arc::clone(&engine)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let serving = state.clone();
        runtime.spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            let _ = end.send(serve(serving, listener, stopped).await);
        });
        Server {
            address,
            engine,
            state,
            shutdown: Some(shutdown),
            ended: Some(ended),
            runtime,
            _folder: folder,
        }
    }
}

/// A server with everything at its default.
pub(crate) fn start() -> Server {
    Setup::default().start()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The error's fields, after checking the shape that every error has.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String, Option<String>, Option<String>) {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.body);
        let body = self.json();
        let error = body["error"].as_object().unwrap();
        assert_eq!(error.keys().collect::<Vec<_>>(), ["message", "type", "param", "code"]);
        assert!(error["type"].is_string());
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        (self.status, text("message").unwrap(), text("param"), text("code"))
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

impl Server {
    /// Sends a request as it is and gives the stream to read the answer from.
    pub(crate) fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Stream {
        self.open_bytes(method, path, headers, body.as_bytes())
    }

    fn open_bytes(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Stream {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        // A server that refuses early may close before it has read all of a large body.
        let _ = socket.write_all(&[format!("{request}\r\n").as_bytes(), body].concat());
        Stream {
            reader: BufReader::new(socket),
            head: String::new(),
        }
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send_bytes(method, path, headers, body.as_bytes())
    }

    pub(crate) fn send_bytes(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.open_bytes(method, path, headers, body).finish()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("Content-Type", "application/json")], &body.to_string())
    }

    /// Begins a streamed request.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Stream {
        let mut stream = self.open("POST", path, &[("Content-Type", "application/json")], &body.to_string());
        stream.read_head();
        stream
    }

    /// Sends the signal to stop.
    pub(crate) fn shut_down(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Waits for `serve` to return.
    pub(crate) fn ended(&mut self) -> Result<(), ServerError> {
        let ended = self.ended.take().unwrap();
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), ended).await })
            .unwrap()
            .unwrap()
    }
}

/// An answer being read.
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    head: String,
}

impl Stream {
    fn read_head(&mut self) {
        while !self.head.ends_with("\r\n\r\n") {
            assert_ne!(
                self.reader.read_line(&mut self.head).unwrap(),
                0,
                "closed within the head: {}",
                self.head
            );
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    /// Reads to the end.
    pub(crate) fn finish(mut self) -> Answer {
        self.read_head();
        let status = self.head[9..12].parse().unwrap();
        let mut body = String::new();
        if self.is_chunked() {
            while let Some(chunk) = self.chunk() {
                body += &chunk;
            }
        } else {
            self.reader.read_to_string(&mut body).unwrap();
        }
        Answer {
            status,
            head: self.head,
            body,
        }
    }

    /// The next chunk of the transfer encoding.
    fn chunk(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        let length = usize::from_str_radix(line.trim(), 16)
            .ok()
            .filter(|&length| length > 0)?;
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).unwrap();
        bytes.truncate(length);
        Some(String::from_utf8(bytes).unwrap())
    }

    /// All events with the time each arrived at. The last of a whole stream is `[DONE]`.
    pub(crate) fn events(mut self) -> Vec<(Instant, String)> {
        let mut events = Vec::new();
        let mut buffer = String::new();
        while let Some(chunk) = self.chunk() {
            buffer += &chunk;
            while let Some(end) = buffer.find("\n\n") {
                let event: String = buffer.drain(..end + 2).collect();
                events.push((Instant::now(), event.trim_end().to_owned()));
            }
        }
        assert_eq!(buffer, "", "the stream ends within an event");
        events
    }

    /// The JSON of all events, after checking that `[DONE]` ends them.
    pub(crate) fn chunks(self) -> Vec<Value> {
        let mut data: Vec<String> = self
            .events()
            .iter()
            .filter_map(|(_, event)| event.strip_prefix("data: ").map(str::to_owned))
            .collect();
        assert_eq!(data.pop().as_deref(), Some("[DONE]"));
        data.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// Reads until this has come, then goes away.
    pub(crate) fn abandon_after(mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            seen += &self.chunk().expect("the stream goes on until then");
        }
    }

    /// Reads until some of the answer has come, then goes away.
    pub(crate) fn abandon_after_first_chunk(mut self) {
        assert!(self.chunk().is_some());
    }
}

/// Waits for something that happens elsewhere.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited 10 s until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
