//! The body of a request, answered by the whole server over the bundled model: the first byte chooses the route.
#![no_main]

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use synapse_checkpoint::ModelFiles;
use synapse_engine::{Engine, EngineOptions};
use synapse_nn::{LoadOptions, models};
use synapse_server::{ServerOptions, ServerState, router};
use synapse_tokenizer::ChatTokenizer;
use tower::ServiceExt;

const ROUTES: [&str; 6] =
    ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/v1/models/trace"];

fn service() -> Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    let make = || {
        let files = ModelFiles::open(synapse_fuzz::model()).expect("the bundled model");
        let chat = ChatTokenizer::of_model(&files).expect("its tokenizer");
        let model = models::load(&files, &LoadOptions::BF16).expect("its weights");
        // a short context bounds what one request costs
        let limits = EngineOptions { context: Some(64), ..EngineOptions::default() };
        let mut options = ServerOptions::new("fuzz");
        options.max_choices = 2;
        let engine = Arc::new(Engine::start(model, chat, Vec::new(), limits));
        router(ServerState::new(options, engine).expect("names that differ"))
    };
    ROUTER.get_or_init(make).clone()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&route, body)) = bytes.split_first() else {
        return;
    };
    let path = ROUTES[route as usize % ROUTES.len()];
    let request = Request::post(path)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Body::from(body.to_vec()))
        .expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let Ok(answer) = service().oneshot(request).await;
        let status = answer.status();
        let text = to_bytes(answer.into_body(), usize::MAX).await.expect("the whole answer");
        assert_ne!(status.as_u16(), 500, "{}", String::from_utf8_lossy(&text));
    });
});
