//! Reads `{"messages": [...], "generation": bool}` lines from stdin, writes `{"text", "ids", "trained"}` lines.
//!
//! `encode MODEL_DIR`; the parity script tests/compare_tokens.py drives it. `trained` is the loss mask, without generation only.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use synapse_tokenizer::{ChatTokenizer, Message};

#[derive(serde::Deserialize)]
struct Line {
    messages: Vec<Message>,
    generation: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: encode MODEL_DIR < LINES.jsonl")?;
    let chat = ChatTokenizer::open(&PathBuf::from(folder))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line?)?;
        let text = chat.render(&line.messages, line.generation)?;
        let json = if line.generation {
            serde_json::json!({ "text": text, "ids": chat.encode_prompt(&line.messages)? })
        } else {
            let encoded = chat.encode_training(&line.messages, &[])?;
            serde_json::json!({ "text": text, "ids": encoded.ids, "trained": encoded.loss_mask })
        };
        writeln!(out, "{json}")?;
    }
    Ok(())
}
