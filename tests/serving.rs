//! `serve` over a real port, spoken to in raw HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Root, repository};

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
        let mut text = String::new();
        self.send(method, path, body).read_to_string(&mut text).unwrap();
        let status = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        (
            status,
            text.split_once("\r\n\r\n")
                .map(|(_, body)| body.to_owned())
                .unwrap_or_default(),
        )
    }

    /// The JSON of an answer, which must have this status.
    #[track_caller]
    fn json(&self, method: &str, path: &str, body: &Value, expected: u16) -> Value {
        let (status, text) = self.request(method, path, &body.to_string());
        assert_eq!(status, expected, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        stream
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
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
    let base = Root::base();
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

#[test]
fn answers_of_a_form_embeddings_and_counts_over_a_real_model() {
    let root = Root::new();
    let server = Server::start(&root, &["data/nano/base"]);
    let schema = json!({
        "type": "object",
        "properties": { "route": { "enum": ["math", "code"] }, "sure": { "type": "boolean" } },
        "required": ["route", "sure"],
        "additionalProperties": false,
    });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "route", "schema": schema } });
    let body = json!({ "messages": [{ "role": "user", "content": "2 + 3?" }], "response_format": format, "n": 2, "temperature": 1.5 });
    let answer = server.json("POST", "/v1/chat/completions", &body, 200);
    for choice in answer["choices"].as_array().unwrap() {
        let text = choice["message"]["content"].as_str().unwrap();
        let route: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(
            route["sure"].is_boolean() && ["math", "code"].contains(&route["route"].as_str().unwrap()),
            "{text}"
        );
    }

    let texts = ["What is 2 + 3?", "What is 2 + 4?", "def double(x): return 2 * x"];
    let body = json!({ "input": texts });
    let embedded = server.json("POST", "/v1/embeddings", &body, 200);
    let vectors: Vec<Vec<f64>> = embedded["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| serde_json::from_value(entry["embedding"].clone()).unwrap())
        .collect();
    let dot = |a: usize, b: usize| -> f64 { vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum() };
    assert!((dot(0, 0) - 1.0).abs() < 1e-5);
    assert!(dot(0, 1) > dot(0, 2), "{} {}", dot(0, 1), dot(0, 2));
    // The same numbers alone as beside others.
    let alone = server.json("POST", "/v1/embeddings", &json!({ "input": texts[2] }), 200);
    assert_eq!(alone["data"][0]["embedding"], embedded["data"][2]["embedding"]);

    let (status, metrics) = server.request("GET", "/metrics", "");
    assert!(
        status == 200 && metrics.contains("synapse_answers_total{reason=\"stop\"} 2"),
        "{metrics}"
    );
    // The bundled base's template knows no tools, and says so.
    let tools = json!({ "messages": [{ "role": "user", "content": "2 + 3?" }], "tools": [{ "type": "function", "function": { "name": "add" } }] });
    let refused = server.json("POST", "/v1/chat/completions", &tools, 400);
    assert_eq!(refused["error"]["param"], "tools");
}

const ADAPTER: &str = "
name: live
pipeline: ../pipelines/specialist.yaml
base: ../data/nano/base
data: [{ dataset: ../data/nano/train/math.parquet, samples: 32 }]
held_out: 4
lora: { rank: 4, alpha: 8, dropout: 0.0, targets: all-linear }
train: { max_steps: 2, batch_size: 4, gradient_accumulation: 1, max_seq_len: 128, learning_rate: 1.0e-2, warmup_ratio: 0.0 }
evaluate: { suites: [held-out-loss] }
output: adapters/live
";

#[test]
fn adapters_are_loaded_into_a_running_server() {
    let root = Root::new();
    root.write("recipes/live.yaml", ADAPTER);
    root.ok(&["run", "recipes/live.yaml"]);
    let server = Server::start(
        &root,
        &[
            "data/nano/base",
            "--adapter-root",
            "adapters",
            "--adapter",
            "first=adapters/live",
        ],
    );
    let loaded = server.json(
        "POST",
        "/v1/adapters",
        &json!({ "name": "second", "path": "live" }),
        200,
    );
    assert_eq!(loaded["generation"].as_str().unwrap().len(), 64);
    let first = server.json("GET", "/v1/models/first", &Value::Null, 200);
    assert_eq!(
        first["generation"], loaded["generation"],
        "the same files, whichever way they came"
    );
    let top = |model: &str| {
        let body = json!({ "model": model, "prompt": "What is 2 + 3?", "max_tokens": 3, "logprobs": 2, "temperature": 0, "ignore_eos": true });
        server.json("POST", "/v1/completions", &body, 200)["choices"][0]["logprobs"]["token_logprobs"].clone()
    };
    assert_ne!(top("base"), top("first"), "the adapter changes nothing");
    assert_eq!(top("first"), top("second"));
    server.json("DELETE", "/v1/adapters/second", &Value::Null, 200);
    server.json(
        "POST",
        "/v1/completions",
        &json!({ "model": "second", "prompt": "x" }),
        404,
    );
    root.write("adapters/broken/adapter_config.json", "{}");
    let refused = server.json(
        "POST",
        "/v1/adapters",
        &json!({ "name": "broken", "path": "broken" }),
        400,
    );
    assert_eq!(refused["error"]["code"], "adapter_refused");
}

#[test]
fn a_swarm_is_found_in_a_folder_or_a_pipeline_and_routes() {
    let root = Root::new();
    let quick = |name: &str| {
        ADAPTER
            .replace("name: live", &format!("name: {name}"))
            .replace("adapters/live", &format!("adapters/my-{name}"))
    };
    root.write("recipes/math.yaml", &quick("math"));
    let coordinator = quick("coordinator").replace("train/math.parquet", "train/coordinator.jsonl, format: messages")
        + "router: { labels: [math, code, none] }\n";
    root.write("recipes/coordinator.yaml", &coordinator);
    let pipeline = "name: both\nrecipes: [../recipes/math.yaml, ../recipes/coordinator.yaml]\noutput: outputs/both\n";
    root.write("pipelines/both.yaml", pipeline);
    root.ok(&["run", "recipes/math.yaml"]);

    let refused = |arguments: &[&str], what: &str| {
        let output = root.train(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(what), "{text}");
    };
    refused(
        &["serve", "--swarm", "pipelines/both.yaml"],
        "coordinator: no adapter in adapters/my-coordinator; train it with `synapse-train run",
    );
    refused(
        &["serve", "--swarm", "adapters"],
        "adapters: none of the adapters is a coordinator",
    );
    refused(&["serve", "--swarm", "recipes"], "recipes: contains no adapter folders");
    refused(&["serve", "--swarm", "recipes/math.yaml"], "this is a recipe");
    refused(
        &["serve", "--swarm", "adapters", "--swarm-threshold", "2"],
        "between 0 and 1",
    );
    refused(&["serve"], "MODEL");

    root.ok(&["run", "recipes/coordinator.yaml"]);
    for (from, math) in [("pipelines/both.yaml", "math"), ("adapters", "my-math")] {
        // Whatever a coordinator of two steps says decides.
        let server = Server::start(&root, &["--swarm", from, "--swarm-threshold", "0"]);
        let models = server.json("GET", "/v1/models", &Value::Null, 200);
        let ids: Vec<&str> = models["data"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|card| card["id"].as_str())
            .collect();
        assert!(
            ids.contains(&math) && ids.contains(&"base") && ids.contains(&"synapse-swarm"),
            "{ids:?}"
        );
        let body = json!({ "model": "synapse-swarm", "messages": [{ "role": "user", "content": "What is 2 + 3?" }], "max_tokens": 2 });
        let answer = server.json("POST", "/v1/chat/completions", &body, 200);
        let routing = &answer["synapse"];
        let scores = routing["scores"].as_object().unwrap();
        assert_eq!(scores.keys().collect::<Vec<_>>(), ["math", "code", "none"]);
        let sum: f64 = scores.values().filter_map(Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{routing}");
        let expected = if routing["label"] == "math" { math } else { "base" };
        assert_eq!(routing["adapter"], expected);
        assert_eq!(answer["model"], format!("synapse-swarm:{expected}"));
    }
}

#[test]
fn a_request_for_several_specialists_is_drafted_by_them_and_written_by_the_base() {
    let root = Root::new();
    let quick = |name: &str, data: &str, steps: &str, more: &str| {
        let recipe = ADAPTER
            .replace("max_steps: 2", &format!("epochs: 4, max_steps: {steps}"))
            .replace("name: live", &format!("name: {name}"))
            .replace("train/math.parquet", data)
            .replace("adapters/live", &format!("adapters/{name}"));
        root.write(&format!("recipes/{name}.yaml"), &(recipe + more));
        root.ok(&["run", &format!("recipes/{name}.yaml")]);
    };
    quick("math", "train/math.parquet", "2", "");
    quick("code", "train/code.json, format: alpaca", "2", "");
    // A coordinator that has learned one answer.
    let row = r#"{"messages": [{"role": "user", "content": "Request N"}, {"role": "assistant", "content": "{\"route\":\"several\"}"}]}"#;
    let rows: Vec<String> = (0..40).map(|n| row.replace('N', &n.to_string())).collect();
    root.write("data/nano/train/several.jsonl", &(rows.join("\n") + "\n"));
    quick(
        "coordinator",
        "train/several.jsonl, format: messages, license: apache-2.0",
        "24",
        "router: { labels: [math, code, several, none] }\n",
    );
    let refused = root
        .train(&["serve", "--swarm", "adapters", "--swarm-drafts", "1"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be combined with others"));

    let ask = |server: &Server, max_tokens: usize| {
        let body = json!({
            "model": "synapse-swarm", "max_tokens": max_tokens, "temperature": 0,
            "messages": [{ "role": "user", "content": "What is 2 + 3? And write a function that adds two numbers." }],
        });
        server.json("POST", "/v1/chat/completions", &body, 200)
    };
    let arguments = ["--swarm", "adapters", "--swarm-threshold", "0"];
    let server = Server::start(&root, &arguments);
    let answer = ask(&server, 24);
    let routing = &answer["synapse"];
    assert_eq!(
        (&routing["label"], &routing["adapter"]),
        (&json!("several"), &json!("base"))
    );
    let drafts = routing["drafts"].as_array().unwrap();
    let mut asked: Vec<&str> = drafts.iter().filter_map(|draft| draft["adapter"].as_str()).collect();
    let score = |name: &str| routing["scores"][name].as_f64().unwrap();
    assert!(score(asked[0]) >= score(asked[1]), "{routing}");
    asked.sort_unstable();
    assert_eq!(asked, ["code", "math"]);
    // Each draft is what its specialist says alone.
    for draft in drafts {
        let body = json!({
            "model": draft["adapter"], "max_tokens": 24, "temperature": 0,
            "messages": [{ "role": "user", "content": "What is 2 + 3? And write a function that adds two numbers." }],
        });
        let alone = server.json("POST", "/v1/chat/completions", &body, 200);
        assert_eq!(alone["choices"][0]["message"]["content"], draft["text"]);
        assert_eq!(alone["usage"]["completion_tokens"], draft["tokens"]);
    }
    assert_eq!(
        ask(&server, 24)["choices"],
        answer["choices"],
        "the same request, the same reply"
    );
    let trace = server.json("GET", "/v1/router/decisions", &Value::Null, 200);
    assert_eq!(trace["data"][1]["drafts"][0]["tokens"], drafts[0]["tokens"]);

    let without = Server::start(&root, &[&arguments[..], &["--swarm-drafts", "0"]].concat());
    let answer = ask(&without, 24);
    assert_eq!(answer["model"], "synapse-swarm:base");
    assert!(answer["synapse"].get("drafts").is_none(), "{answer}");
}

/// Sixteen long answers, one after another.
fn long(server: &Server) -> BufReader<TcpStream> {
    let body = json!({ "prompt": "2 + 3", "n": 16, "max_tokens": 200, "ignore_eos": true, "stream": true });
    let mut stream = BufReader::new(server.send("POST", "/v1/completions", &body.to_string()));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0);
    }
    stream
}

#[test]
fn a_signal_lets_accepted_requests_end_and_a_second_cuts_them_off() {
    let root = Root::new();
    let mut server = Server::start(&root, &["data/nano/base", "--max-batch", "1"]);
    let mut stream = long(&server);
    server.terminate();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(
        rest.matches("\"finish_reason\":\"length\"").count(),
        16,
        "every answer is whole"
    );
    assert!(rest.contains("data: [DONE]"));
    assert_eq!(server.exit_code(), Some(0));

    let mut server = Server::start(&root, &["data/nano/base", "--max-batch", "1"]);
    let mut stream = long(&server);
    server.terminate();
    while server.request("GET", "/health", "").0 != 503 {}
    server.terminate();
    assert_eq!(server.exit_code(), Some(1));
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest);
    assert!(!rest.contains("[DONE]"));
}

/// The same numbers over the wire, whether a file holds the blocks or the server makes them.
#[test]
fn a_gguf_file_is_served_as_its_folder_quantized() {
    let root = Root::new();
    root.ok(&["export", "data/nano/base", "--quant", "q8_0", "--out", "nano.gguf"]);
    let body = json!({ "prompt": "What is 3 + 4?", "max_tokens": 8, "temperature": 0, "logprobs": 5 });
    let numbers = |arguments: &[&str]| {
        let server = Server::start(&root, arguments);
        server.json("POST", "/v1/completions", &body, 200)["choices"][0]["logprobs"].clone()
    };
    assert_eq!(numbers(&["nano.gguf"]), numbers(&["data/nano/base", "--quant", "q8_0"]));
    let server = Server::start(&root, &["nano.gguf"]);
    let models = server.json("GET", "/v1/models", &Value::Null, 200);
    assert_eq!(models["data"][0]["id"], "nano");
}

/// Against transformers' log-softmax of the bundled base: crates/server/tests/fixtures/make_echo.py.
#[test]
fn an_echoed_prompt_has_the_log_probabilities_of_transformers() {
    let root = Root::new();
    let base = repository().join("data/nano/base");
    let server = Server::start(&root, &[base.to_str().unwrap(), "--dtype", "f32"]);
    let fixture = repository().join("crates/server/tests/fixtures/echo.json");
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let prompts = |field: &str| rows.iter().map(|row| row[field].clone()).collect::<Value>();
    for prompt in [prompts("text"), prompts("tokens")] {
        let body = json!({ "prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0 });
        let answer = server.json("POST", "/v1/completions", &body, 200);
        for (row, choice) in rows.iter().zip(answer["choices"].as_array().unwrap()) {
            let logprobs = &choice["logprobs"];
            let found = logprobs["token_logprobs"].as_array().unwrap();
            let top = logprobs["top_logprobs"].as_array().unwrap();
            let count = row["tokens"].as_array().unwrap().len();
            assert_eq!((found.len(), top.len()), (count + 1, count + 1));
            assert_eq!((&found[0], &top[0]), (&Value::Null, &Value::Null));
            let near = |found: &Value, right: &Value| (found.as_f64().unwrap() - right.as_f64().unwrap()).abs() < 1e-4;
            for index in 1..count {
                let right = &row["token_logprobs"][index];
                assert!(
                    near(&found[index], right),
                    "{row}: token {index}: {} is not {right}",
                    found[index]
                );
                let best = top[index]
                    .as_object()
                    .unwrap()
                    .values()
                    .max_by(|a, b| a.as_f64().partial_cmp(&b.as_f64()).unwrap());
                assert!(
                    near(best.unwrap(), &row["best"][index]),
                    "{row}: the best in place of token {index}"
                );
            }
            assert!(near(&found[count], &row["next_logprob"]), "{row}");
            assert!(
                choice["text"]
                    .as_str()
                    .unwrap()
                    .starts_with(row["text"].as_str().unwrap())
            );
        }
    }
}
