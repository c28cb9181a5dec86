//! `generate`: one completion from a model.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use synapse_engine::{Event, FinishReason, Request, SamplingOptions};
use synapse_pipeline::{LoadedModel, TracedText};
use synapse_tokenizer::Message;

use crate::{
    Outcome,
    args::GenerateArguments,
    commands::{open_model, print_json, weight_options},
    failure::Failure,
};

/// Generates and prints token by token, or as JSON at the end.
pub(crate) fn generate(arguments: &GenerateArguments) -> Outcome {
    let messages = match (&arguments.messages, &arguments.prompt) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::request(format!("{}: {error}", path.display())))?;
            serde_json::from_str::<Vec<Message>>(&text)
                .map_err(|error| Failure::request(format!("{}: not a list of messages: {error}", path.display())))?
        }
        (None, Some(prompt)) => vec![Message::new("user", prompt)],
        (None, None) => return Err(Failure::request("pass --prompt or --messages")),
    };
    let adapters: Vec<_> = arguments
        .adapter
        .iter()
        .map(|path| ("adapter", path.as_path()))
        .collect();
    let load = weight_options(&arguments.model, arguments.weights)?;
    let model = LoadedModel::of_files(&open_model(&arguments.model, &load)?, &adapters, &load)?
        .with_template_arguments(&arguments.template.chat_template_kwargs)?;
    if arguments.trace.is_some() && model.engine().modules().is_empty() {
        return Err(Failure::request(
            "--trace: this model has no expert router to trace; only `model_type: synapse` models do",
        ));
    }
    let prompt = match &arguments.prompt {
        Some(prompt) if arguments.raw => model.chat().encode_raw(prompt)?,
        _ => model.chat().encode_prompt(&messages)?,
    };
    let sampling = SamplingOptions {
        temperature: arguments.temperature,
        seed: arguments.seed,
        max_tokens: arguments.max_tokens,
        ..SamplingOptions::default()
    };
    let adapter = arguments.adapter.as_ref().map(|_| "adapter");
    let (mut read, answer_from) = (prompt.clone(), prompt.len());
    let request = Request {
        prompt,
        sampling,
        adapter: adapter.map(str::to_owned),
        constraint: None,
    };
    if arguments.json {
        let completion = model.engine().generate(vec![request])?.remove(0);
        if let Some(path) = &arguments.trace {
            read.extend(completion.token_ids());
            write_trace(&model, adapter, (&read, answer_from), path)?;
        }
        return print_json(&json!({
            "text": completion.text,
            "token_ids": completion.token_ids(),
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
    let mut events = model.engine().submit(request)?;
    let mut out = std::io::stdout().lock();
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Token(token) => {
                read.push(token.id);
                out.write_all(token.text.as_bytes())?;
                out.flush()?;
            }
            Event::PromptLogprobs(_) => {}
            Event::Failed(why) => return Err(Failure::Work(anyhow::anyhow!("{why}"))),
            Event::Done(_) => break,
        }
    }
    out.write_all(b"\n")?;
    out.flush()?;
    match &arguments.trace {
        Some(path) => write_trace(&model, adapter, (&read, answer_from), path),
        None => Ok(()),
    }
}

/// Writes the router trace of every prompt and generated token.
fn write_trace(
    model: &LoadedModel,
    adapter: Option<&str>,
    (tokens, answer_from): (&[u32], usize),
    path: &Path,
) -> Outcome {
    let Some(trace) = TracedText::of(model, adapter, tokens, answer_from)? else {
        return Err(Failure::Work(anyhow::anyhow!(
            "the model has an expert router but returned no trace"
        )));
    };
    let document = serde_json::to_value(&trace)?;
    Ok(synapse_checkpoint::write_atomic(
        path,
        format!("{document}\n").as_bytes(),
    )?)
}

fn reason(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
    }
}
