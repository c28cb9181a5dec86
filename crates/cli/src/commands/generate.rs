//! `generate`: one answer from a model folder.

use std::io::Write;

use serde_json::json;
use synapse_chat::Message;
use synapse_engine::{Event, FinishReason, Request, SamplingOptions};
use synapse_pipeline::Lab;

use crate::{
    Outcome,
    args::GenerateArguments,
    commands::{print_json, weight_options},
    failure::Failure,
};

/// Generates and prints, token by token unless as JSON.
pub(crate) fn generate(arguments: &GenerateArguments) -> Outcome {
    let messages = match (&arguments.messages, &arguments.prompt) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::request(format!("{}: {error}", path.display())))?;
            serde_json::from_str::<Vec<Message>>(&text)
                .map_err(|error| Failure::request(format!("{}: not a list of messages: {error}", path.display())))?
        }
        (None, Some(prompt)) => vec![Message::new("user", prompt)],
        (None, None) => return Err(Failure::request("give --prompt or --messages")),
    };
    let adapters: Vec<_> = arguments
        .adapter
        .iter()
        .map(|path| ("adapter", path.as_path()))
        .collect();
    let lab = Lab::open(&arguments.model, &adapters, &weight_options(arguments.weights))?;
    let prompt = match &arguments.prompt {
        Some(prompt) if arguments.raw => lab.chat().encode_raw(prompt)?,
        _ => lab.chat().encode_prompt(&messages)?,
    };
    let sampling = SamplingOptions {
        temperature: arguments.temperature,
        seed: arguments.seed,
        max_tokens: arguments.max_tokens,
        ..SamplingOptions::default()
    };
    let request = Request {
        prompt,
        sampling,
        adapter: arguments.adapter.as_ref().map(|_| "adapter".to_owned()),
        constraint: None,
    };
    if arguments.json {
        let completion = lab.engine().generate(vec![request])?.remove(0);
        return print_json(&json!({
            "text": completion.text,
            "token_ids": completion.token_ids,
            "finish_reason": reason(&completion.finish_reason),
            "timings": {
                "prompt_tokens": completion.usage.prompt_tokens,
                "completion_tokens": completion.usage.completion_tokens,
                "prefill_seconds": completion.timings.prefill_seconds,
                "decode_seconds": completion.timings.decode_seconds,
                "prefill_tokens_per_second": completion.timings.prefill_tokens_per_second,
                "decode_tokens_per_second": completion.timings.decode_tokens_per_second,
            },
        }));
    }
    let mut events = lab.engine().submit(request)?;
    let mut out = std::io::stdout().lock();
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Token { text, .. } => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Event::Failed(why) => return Err(Failure::Work(anyhow::anyhow!("{why}"))),
            Event::Done { .. } => break,
        }
    }
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    }
}
