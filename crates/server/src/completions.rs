//! `POST /v1/completions`: raw text or token ids, control tokens recognized.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use synapse_engine::{Engine, FinishReason, Token, Usage};

use crate::body::{Form, read_object};
use crate::chat::usage;
use crate::error::ApiError;
use crate::generation::{Choices, Order, finish_reason};
use crate::params::Params;
use crate::sampling::{Streaming, read_n};
use crate::sse::{self, Transcript};
use crate::{ServerState, fields, identity, prompts, sampling};

/// OpenAI's default on this route.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Continues one or several prompts.
pub(crate) async fn create(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = read_object(&headers, body, Form::IsJson(&state.options().allowed_origins))?;
    let engine = Arc::clone(state.engine()?);
    let (order, streaming) = read(&body, &state, &engine)?;
    let mut wire = Wire {
        id: identity::random_id("cmpl-"),
        created: identity::unix_seconds(),
        model: order.adapter.clone().unwrap_or_else(|| state.options().model.clone()),
        logprobs: order.sampling.logprobs.is_some(),
        include_usage: streaming.include_usage,
        offsets: Vec::new(),
        engine: Arc::clone(&engine),
    };
    let choices = Choices::start(&state, &engine, order, state.accept()?).await?;
    if streaming.stream {
        return Ok(sse::respond(choices, wire, state.options().keep_alive));
    }
    wire.whole(choices).await
}

fn read(body: &Map<String, Value>, state: &ServerState, engine: &Engine) -> Result<(Order, Streaming), ApiError> {
    fields::check(body, fields::COMPLETIONS)?;
    let params = Params::new(body);
    let adapter = state.adapter_of(params.text("model")?, engine)?;
    let prompts = prompts::read(params, "prompt")?;
    let streaming = Streaming::read(params)?;
    let n = read_n(params, prompts.len(), state.options().max_choices)?;
    let mut sampling = sampling::read(params, state.options().defaults)?;
    sampling.logprobs = params.count("logprobs")?;
    let max_tokens = Some(params.count("max_tokens")?.unwrap_or(DEFAULT_MAX_TOKENS));
    Ok((
        Order {
            prompts,
            prompt_param: "prompt",
            n,
            sampling,
            max_tokens,
            adapter,
            grammar: None,
        },
        streaming,
    ))
}

/// Writes answers as OpenAI does.
struct Wire {
    id: String,
    created: u64,
    model: String,
    logprobs: bool,
    include_usage: bool,
    /// Characters each answer has so far.
    offsets: Vec<usize>,
    engine: Arc<Engine>,
}

impl Wire {
    async fn whole(&mut self, choices: Choices) -> Result<Response, ApiError> {
        let (answers, total) = choices.collect().await?;
        self.offsets = vec![0; answers.len()];
        let mut choices = Vec::new();
        for (index, answer) in answers.iter().enumerate() {
            let logprobs = self.logprobs(index, &answer.tokens);
            choices.push(json!({
                "text": answer.text(),
                "index": index,
                "logprobs": logprobs,
                "finish_reason": answer.reason.map(finish_reason),
            }));
        }
        let mut body = self.chunk(&choices.into());
        body["usage"] = usage(total);
        Ok(Json(body).into_response())
    }

    /// `null` unless asked for. The alternatives of a token include the token itself.
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
                // Halves of characters share a text; the likeliest keeps it.
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

    /// Streamed and whole answers have the same object name on this route.
    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

impl Transcript for Wire {
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
        vec![self.chunk(&json!([choice]))]
    }

    fn finish(&mut self, choice: usize, reason: FinishReason) -> Vec<Value> {
        let choice = json!({ "text": "", "index": choice, "logprobs": null, "finish_reason": finish_reason(reason) });
        vec![self.chunk(&json!([choice]))]
    }

    fn closing(&mut self, total: Usage) -> Option<Value> {
        self.include_usage.then(|| {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage(total);
            chunk
        })
    }
}
