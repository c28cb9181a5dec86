//! `POST /v1/completions`: continues raw text or token ids; special tokens in the text are recognized.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use synapse_engine::{Engine, FinishReason, Token, Usage};

use crate::body::{BodyPolicy, RawBody};
use crate::error::ApiError;
use crate::generation::{Completions, GenerationOptions, GenerationRequest};
use crate::params::Params;
use crate::sampling::{Streaming, read_n};
use crate::sse::{self, ChunkWriter};
use crate::wire::{Envelope, finish_reason};
use crate::{ServerState, fields, prompts, sampling, target};

/// OpenAI's default on this route.
const DEFAULT_MAX_TOKENS: usize = 16;
/// The `object` of a response and of a chunk.
const OBJECT: &str = "text_completion";

/// Continues one or several prompts.
pub(crate) async fn create(State(state): State<ServerState>, body: RawBody) -> Result<Response, ApiError> {
    let (engine, body) = body.read(&state, BodyPolicy::AssumeJson, fields::COMPLETIONS)?;
    let (request, streaming) = read(&body, &state, &engine)?;
    let options = &request.options;
    let model = options.adapter.as_ref().unwrap_or(&state.options().model);
    let mut writer = CompletionWriter {
        envelope: Envelope::new("cmpl-", model.clone(), streaming.include_usage),
        logprobs: options.sampling.logprobs.is_some(),
        offsets: Vec::new(),
        engine: Arc::clone(&engine),
    };
    let completions = Completions::start(&state, &engine, request, state.accept()?).await?;
    if streaming.stream {
        return Ok(sse::respond(completions, writer, state.options().keep_alive));
    }
    writer.whole(completions).await
}

fn read(
    body: &Map<String, Value>,
    state: &ServerState,
    engine: &Engine,
) -> Result<(GenerationRequest, Streaming), ApiError> {
    let params = Params::new(body);
    let adapter = target::adapter(params.text("model")?, state, engine)?;
    let prompts = prompts::read(params, "prompt")?;
    let streaming = Streaming::read(params)?;
    let n = read_n(params, prompts.len(), state.options().max_choices)?;
    let mut sampling = sampling::read(params, state.options().defaults)?;
    sampling.logprobs = params.count("logprobs")?;
    let max_tokens = Some(params.count("max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS));
    let options = GenerationOptions {
        prompt_param: "prompt",
        n,
        sampling,
        max_tokens,
        adapter,
    };
    let request = GenerationRequest {
        prompts,
        options,
        grammar: None,
    };
    Ok((request, streaming))
}

/// Writes completions in OpenAI's format.
struct CompletionWriter {
    envelope: Envelope,
    logprobs: bool,
    /// Characters that each completion has so far.
    offsets: Vec<usize>,
    engine: Arc<Engine>,
}

impl CompletionWriter {
    async fn whole(&mut self, completions: Completions) -> Result<Response, ApiError> {
        let (completions, total) = completions.collect().await?;
        self.offsets = vec![0; completions.len()];
        let mut choices = Vec::new();
        for (index, completion) in completions.iter().enumerate() {
            let logprobs = self.logprobs(index, &completion.tokens);
            choices.push(json!({
                "text": completion.text,
                "index": index,
                "logprobs": logprobs,
                "finish_reason": finish_reason(completion.finish_reason),
            }));
        }
        Ok(Json(self.envelope.whole(OBJECT, &choices.into(), total)).into_response())
    }

    /// `null` unless requested. The alternatives of a token include the token itself.
    fn logprobs(&mut self, choice: usize, all: &[Token]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let chat = self.engine.chat();
        let (mut tokens, mut logprobs, mut top, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for token in all {
            let offset = self.offsets[choice];
            self.offsets[choice] += token.text.chars().count();
            let Some(logprob) = &token.logprob else {
                continue;
            };
            let text = chat.token_text(token.id);
            let mut alternatives: Map<String, Value> = Map::new();
            for &(id, logprob) in &logprob.top {
                // Parts of characters share the text U+FFFD; the most likely one keeps it.
                alternatives
                    .entry(chat.token_text(id))
                    .or_insert_with(|| json!(logprob));
            }
            alternatives
                .entry(text.clone())
                .or_insert_with(|| json!(logprob.logprob));
            tokens.push(text);
            logprobs.push(logprob.logprob);
            top.push(alternatives);
            offsets.push(offset);
        }
        json!({ "tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets })
    }
}

impl ChunkWriter for CompletionWriter {
    fn opening(&mut self, choices: usize) -> Vec<Value> {
        self.offsets = vec![0; choices];
        Vec::new()
    }

    fn token(&mut self, choice: usize, token: &Token) -> Vec<Value> {
        if token.text.is_empty() && token.logprob.is_none() {
            return Vec::new();
        }
        let logprobs = self.logprobs(choice, std::slice::from_ref(token));
        let choice = json!({ "text": token.text, "index": choice, "logprobs": logprobs, "finish_reason": null });
        vec![self.envelope.chunk(OBJECT, &json!([choice]))]
    }

    fn finish(&mut self, choice: usize, reason: FinishReason) -> Vec<Value> {
        let choice = json!({ "text": "", "index": choice, "logprobs": null, "finish_reason": finish_reason(reason) });
        vec![self.envelope.chunk(OBJECT, &json!([choice]))]
    }

    fn closing(&mut self, total: Usage) -> Option<Value> {
        self.envelope.usage_chunk(OBJECT, total)
    }
}
