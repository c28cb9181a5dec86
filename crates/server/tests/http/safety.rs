//! Keys, origins, content types and the chat page's policy.

use serde_json::json;
use synapse_server::ApiKeys;

use crate::client::{Setup, start};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> String {
    json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 1 }).to_string()
}

#[test]
fn keys_guard_v1_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, "first-Key\nsecond-Key\n").unwrap();
    let mut setup = Setup::default();
    setup.server.api_keys = Some(ApiKeys::read(&path).unwrap());
    let server = setup.start();
    let status = |authorization: &str| {
        let headers = [("Content-Type", "application/json"), ("Authorization", authorization)];
        server.send("POST", CHAT, &headers, &hello()).status
    };
    assert_eq!(status("Bearer first-Key"), 200);
    assert_eq!(status("bearer second-Key"), 200);
    for wrong in [
        "Bearer first-key",
        "Bearer first-Key2",
        "Bearer ",
        "Basic first-Key",
        "first-Key",
    ] {
        assert_eq!(status(wrong), 401, "{wrong}");
    }
    let answer = server.get("/v1/models");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let (status, _, _, code) = answer.error();
    assert_eq!((status, code.as_deref()), (401, Some("invalid_api_key")));
    for open in ["/health", "/metrics", "/openapi.json", "/"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
    for guarded in [
        "/v1/embeddings",
        "/v1/adapters",
        "/tokenize",
        "/detokenize",
        "/v1/completions",
    ] {
        assert_eq!(server.post(guarded, &json!({})).status, 401, "{guarded}");
    }
    assert_eq!(server.send("DELETE", "/v1/adapters/first", &[], "").status, 401);
}

#[test]
fn curl_without_a_content_type_works_but_not_for_foreign_pages() {
    let server = start();
    let own = format!("http://{}", server.address);
    let status = |path: &str, headers: &[(&str, &str)]| server.send("POST", path, headers, &hello()).status;
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(status(CHAT, &[form]), 200);
    assert_eq!(status(CHAT, &[]), 200);
    assert_eq!(status(CHAT, &[form, ("Origin", &own)]), 200);
    assert_eq!(
        status(CHAT, &[("Content-Type", "application/json; charset=utf-8")]),
        200
    );
    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(status(CHAT, &[form, ("Origin", foreign)]), 403, "{foreign}");
        assert_eq!(status(CHAT, &[("Origin", foreign)]), 403, "{foreign}");
    }
    let refused = server
        .send("POST", "/v1/completions", &[("Origin", "https://evil.example")], "{}")
        .error();
    assert_eq!((refused.0, refused.3.as_deref()), (403, Some("foreign_origin")));
}

#[test]
fn other_origins_are_let_in_only_by_name() {
    let preflight = |server: &crate::client::Server, origin| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,content-type"),
        ];
        server.send("OPTIONS", CHAT, &headers, "")
    };
    let closed = preflight(&start(), "https://chat.example");
    assert_eq!(
        (closed.status, closed.header("access-control-allow-origin")),
        (405, None)
    );

    let mut setup = Setup::default();
    setup.server.allowed_origins = vec!["https://chat.example".into()];
    let server = setup.start();
    let open = preflight(&server, "https://chat.example");
    assert_eq!(open.status, 204);
    assert_eq!(open.header("access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(
        open.header("access-control-allow-headers"),
        Some("authorization,content-type")
    );
    assert_eq!(
        preflight(&server, "https://evil.example").header("access-control-allow-origin"),
        None
    );
    let answer = server.send("POST", CHAT, &[("Origin", "https://chat.example")], &hello());
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://chat.example"))
    );
    assert_eq!(answer.header("vary"), Some("Origin"));
}

#[test]
fn the_page_runs_its_own_script_only_and_loads_nothing() {
    let server = start();
    let page = server.get("/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    let nonce = policy
        .split("script-src 'nonce-")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    assert!(policy.starts_with("default-src 'none'; ") && nonce.len() == 32);
    assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    assert_ne!(
        server.get("/").header("content-security-policy"),
        Some(policy),
        "the nonce is fresh"
    );
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "src=\"http",
        "@import",
        "style=\"",
    ] {
        assert!(!page.body.contains(forbidden), "the page contains {forbidden}");
    }
}
