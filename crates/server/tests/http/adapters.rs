//! `POST` and `DELETE /v1/adapters`: off unless allowed, confined to a folder, and without a trace in what runs.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use synapse_engine::AdapterSource;
use synapse_nn::Adapter;
use synapse_server::AdapterRoot;

use crate::client::{Server, Setup, start};
use crate::support::{ADAPTER_WORDS, CALL_WORDS};

const ADAPTERS: &str = "/v1/adapters";

/// A folder holds the number of one of the model's adapters.
pub(crate) struct Numbers(pub(crate) Vec<Arc<Adapter>>);

impl AdapterSource for Numbers {
    fn content_hash(&self, folder: &Path) -> Result<String, String> {
        std::fs::read_to_string(folder.join("number")).map_err(|error| error.to_string())
    }

    fn load(&self, folder: &Path) -> Result<Arc<Adapter>, String> {
        let number: usize = self.content_hash(folder)?.parse().map_err(|_| "no number".to_owned())?;
        self.0
            .get(number)
            .cloned()
            .ok_or_else(|| format!("there is no adapter {number}"))
    }
}

/// A server whose adapters' folder holds `math` and `code`, beside a folder that is none of its business.
fn live(milliseconds: u64) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    for (name, number) in [
        ("root/math", "0"),
        ("root/code", "1"),
        ("root/broken", "x"),
        ("secret", "0"),
    ] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("number"), number).unwrap();
    }
    let mut setup = Setup::slow(milliseconds);
    setup.server.adapters = Some(AdapterRoot::new(&folder.path().join("root"), 4).unwrap());
    (folder, setup.start())
}

fn say(server: &Server, model: &str) -> Value {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Hi" }] });
    server.post("/v1/chat/completions", &body).json()["choices"][0]["message"]["content"].clone()
}

#[test]
fn adapters_come_change_and_go_while_others_answer() {
    let (_folder, server) = live(5);
    let loaded = server.post(ADAPTERS, &json!({ "name": "live", "path": "math" })).json();
    assert_eq!(loaded, json!({ "id": "live", "object": "adapter", "generation": "0" }));
    let card = server.get("/v1/models/live").json();
    assert_eq!((&card["parent"], &card["generation"]), (&json!("mock"), &json!("0")));

    let body = json!({ "model": "live", "stream": true, "messages": [{ "role": "user", "content": "Hi" }] });
    let running = server.stream("/v1/chat/completions", &body);
    let swap = json!({ "name": "live", "path": "code", "expected_generation": "0" });
    assert_eq!(server.post(ADAPTERS, &swap).json()["generation"], "1");
    assert_eq!(say(&server, "live"), CALL_WORDS.concat());
    let deleted = server.send("DELETE", "/v1/adapters/live", &[], "").json();
    assert_eq!(deleted, json!({ "id": "live", "object": "adapter", "deleted": true }));
    let text: String = running
        .chunks()
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, ADAPTER_WORDS.concat(), "what ran keeps what it began with");
    assert_eq!(server.post("/v1/chat/completions", &body).error().0, 404);
    assert_eq!(server.send("DELETE", "/v1/adapters/live", &[], "").error().0, 404);
}

#[test]
fn only_what_lies_in_the_folder_is_loaded() {
    let (folder, server) = live(0);
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(folder.path().join(target), folder.path().join("root").join(name)).unwrap();
    };
    link("secret", "way-out");
    link("root/math", "way-in");
    std::fs::create_dir(folder.path().join("root/linked")).unwrap();
    link("secret/number", "linked/number");
    let load = |path: &str| server.post(ADAPTERS, &json!({ "name": "live", "path": path }));
    let outside = folder.path().join("secret");
    for path in [
        "..",
        ".",
        "../secret",
        "math/../../secret",
        "way-out",
        "linked",
        "nothing",
        "math/number",
        "a\0b",
        outside.to_str().unwrap(),
    ] {
        let (status, message, param, _) = load(path).error();
        assert_eq!((status, param.as_deref()), (400, Some("path")), "{path}: {message}");
        assert!(!message.contains(folder.path().to_str().unwrap()), "{message}");
    }
    assert_eq!(load("way-in").status, 200);
}

#[test]
fn wrong_wishes_are_refused_and_change_nothing() {
    let (_folder, server) = live(0);
    let load = |body: Value| server.post(ADAPTERS, &body).error();
    let code = |error: (u16, String, Option<String>, Option<String>)| (error.0, error.3.unwrap_or_default());
    assert_eq!(
        code(load(json!({ "name": "live", "path": "broken" }))),
        (400, "adapter_refused".into())
    );
    assert_eq!(
        code(load(json!({ "name": "mock", "path": "math" }))),
        (409, "name_taken".into())
    );
    let unexpected = json!({ "name": "first", "path": "math", "expected_generation": "9" });
    let answer = server.post(ADAPTERS, &unexpected);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(code(answer.error()), (409, "adapter_conflict".into()));
    for (body, param) in [
        (json!({}), "name"),
        (json!({ "name": "", "path": "math" }), "name"),
        (json!({ "name": "a b", "path": "math" }), "name"),
        (json!({ "name": "live" }), "path"),
        (json!({ "name": "live", "path": 3 }), "path"),
        (json!({ "name": "live", "path": "math", "rank": 3 }), "rank"),
    ] {
        let (status, message, found, _) = load(body.clone());
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{body}: {message}");
    }
    for name in ["third", "fourth"] {
        assert_eq!(
            server.post(ADAPTERS, &json!({ "name": name, "path": "math" })).status,
            200
        );
    }
    assert_eq!(
        code(load(json!({ "name": "fifth", "path": "math" }))),
        (409, "too_many_adapters".into())
    );
    assert_eq!(say(&server, "first"), ADAPTER_WORDS.concat());
}

#[test]
fn adapters_are_fixed_unless_allowed() {
    let server = start();
    let (status, message, _, code) = server
        .post(ADAPTERS, &json!({ "name": "live", "path": "math" }))
        .error();
    assert_eq!((status, code.as_deref()), (403, Some("adapters_fixed")));
    assert!(message.contains("--adapter-root"), "{message}");
    assert_eq!(server.send("DELETE", "/v1/adapters/first", &[], "").error().0, 403);
    assert_eq!(say(&server, "first"), ADAPTER_WORDS.concat());
}
