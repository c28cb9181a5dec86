//! A JSON Schema for structured answers: compiled to a grammar by the engine, and a few tokens sampled under it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use synapse_checkpoint::ModelFiles;
use synapse_engine::{Engine, EngineOptions, Grammar, Request, SamplingOptions};
use synapse_nn::{LoadOptions, models};
use synapse_tokenizer::ChatTokenizer;

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let files = ModelFiles::open(synapse_fuzz::model()).expect("the bundled model");
        let chat = ChatTokenizer::of_model(&files).expect("its tokenizer");
        let model = models::load(&files, &LoadOptions::BF16).expect("its weights");
        Engine::start(model, chat, Vec::new(), EngineOptions::default())
    })
}

fuzz_target!(|text: &str| {
    let Ok(schema) = serde_json::from_str(text) else {
        return;
    };
    let sampling = SamplingOptions { max_tokens: 16, ..SamplingOptions::default() };
    let mut request = Request::new(vec![0], sampling);
    let Ok(constraint) = engine().compile(&Grammar::Json(schema)) else {
        return;
    };
    request.constraint = Some(constraint);
    if let Ok(completion) = engine().submit(request) {
        let _ = completion.blocking_collect();
    }
});
