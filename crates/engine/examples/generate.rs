//! Generates a reply with a model folder, by default the tiny model of this repository:
//! cargo run --release -p synapse-engine --example generate -- MODEL_FOLDER "PROMPT"
use std::io::Write;

use synapse_checkpoint::ModelFiles;
use synapse_engine::{Engine, EngineOptions, Request, SamplingOptions};
use synapse_nn::{LoadOptions, models};
use synapse_tokenizer::{ChatTokenizer, Message};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/nano/base");
    let folder = arguments.next().unwrap_or_else(|| bundled.to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "What is 3 + 4?".to_owned());

    let files = ModelFiles::open(folder.as_ref())?;
    let chat = ChatTokenizer::of_model(&files)?;
    let model = models::load(&files, &LoadOptions::BF16)?;
    let prompt = chat.encode_prompt(&[Message::new("user", prompt)])?;
    let engine = Engine::start(model, chat, Vec::new(), EngineOptions::default());
    let sampling = SamplingOptions {
        max_tokens: 32,
        ..SamplingOptions::default()
    };
    let reply = engine.submit(Request::new(prompt, sampling))?.blocking_collect()?;
    writeln!(std::io::stdout(), "{}", reply.text)?;
    assert!(!reply.tokens.is_empty());
    Ok(())
}
