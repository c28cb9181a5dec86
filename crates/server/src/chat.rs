//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use synapse_engine::{Engine, FinishReason, TokenLogprob, Usage};

use crate::body::read_object;
use crate::error::ApiError;
use crate::generation::{Choices, Order, Prompt, Token, finish_reason};
use crate::params::Params;
use crate::sampling::{Streaming, read_n};
use crate::sse::{self, Transcript};
use crate::{ServerState, fields, identity, messages, sampling};

/// Answers a conversation.
pub(crate) async fn create(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = read_object(&headers, body, &state.options().allowed_origins)?;
    let engine = Arc::clone(state.engine()?);
    let (order, streaming) = read(&body, &state, &engine)?;
    let wire = Wire {
        id: identity::random_id("chatcmpl-"),
        created: identity::unix_seconds(),
        model: order.adapter.clone().unwrap_or_else(|| state.options().model.clone()),
        logprobs: order.sampling.logprobs.is_some(),
        include_usage: streaming.include_usage,
        engine: Arc::clone(&engine),
    };
    let choices = Choices::start(&state, &engine, order).await?;
    if streaming.stream {
        return Ok(sse::respond(choices, wire, state.options().keep_alive));
    }
    wire.whole(choices).await
}

fn read(body: &Map<String, Value>, state: &ServerState, engine: &Engine) -> Result<(Order, Streaming), ApiError> {
    fields::check(body, fields::CHAT)?;
    let params = Params::new(body);
    let adapter = state.adapter_of(params.text("model")?, engine)?;
    let messages = messages::read(params)?;
    let streaming = Streaming::read(params)?;
    let mut sampling = sampling::read(params, state.options().defaults)?;
    sampling.logprobs = logprobs(params)?;
    let order = Order {
        prompts: vec![Prompt::Messages(messages)],
        prompt_param: "messages",
        n: read_n(params, 1, state.options().max_choices)?,
        sampling,
        max_tokens: max_tokens(params)?,
        adapter,
    };
    Ok((order, streaming))
}

/// `max_completion_tokens`, or its older name; both only if they agree.
fn max_tokens(params: Params<'_>) -> Result<Option<usize>, ApiError> {
    let newer = params.count("max_completion_tokens")?;
    let older = params.count("max_tokens")?;
    if newer == Some(0) {
        return Err(ApiError::field("max_completion_tokens", "must be at least 1, found 0"));
    }
    if let (Some(newer), Some(older)) = (newer, older)
        && newer != older
    {
        let problem = format!("is {older}, but its newer name `max_completion_tokens` is {newer}; give one of them");
        return Err(ApiError::field("max_tokens", problem));
    }
    Ok(newer.or(older))
}

fn logprobs(params: Params<'_>) -> Result<Option<usize>, ApiError> {
    let wanted = params.boolean("logprobs")?.unwrap_or(false);
    let top = params.count("top_logprobs")?;
    if !wanted && top.is_some_and(|top| top > 0) {
        return Err(ApiError::field("top_logprobs", "needs `logprobs: true`"));
    }
    Ok(wanted.then(|| top.unwrap_or(0)))
}

/// Writes answers as OpenAI does.
struct Wire {
    id: String,
    created: u64,
    model: String,
    logprobs: bool,
    include_usage: bool,
    engine: Arc<Engine>,
}

impl Wire {
    async fn whole(&self, choices: Choices) -> Result<Response, ApiError> {
        let prompt_tokens = choices.prompt_tokens();
        let answers = choices.collect().await?;
        let completion_tokens = answers.iter().map(|answer| answer.completion_tokens).sum();
        let choices: Vec<Value> = answers
            .iter()
            .enumerate()
            .map(|(index, answer)| {
                json!({
                    "index": index,
                    "message": { "role": "assistant", "content": answer.text(), "refusal": null },
                    "logprobs": self.logprobs(&answer.tokens),
                    "finish_reason": answer.reason.map(finish_reason),
                })
            })
            .collect();
        let body = json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": usage(Usage { prompt_tokens, completion_tokens }),
        });
        Ok(Json(body).into_response())
    }

    /// `null` unless asked for.
    fn logprobs(&self, tokens: &[Token]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let content: Vec<Value> = tokens
            .iter()
            .filter_map(|token| Some(self.logprob(token.id, token.logprob.as_ref()?)))
            .collect();
        json!({ "content": content, "refusal": null })
    }

    fn logprob(&self, id: u32, logprob: &TokenLogprob) -> Value {
        let top: Vec<Value> = logprob
            .top
            .iter()
            .map(|&(id, logprob)| self.token_logprob(id, logprob))
            .collect();
        let mut entry = self.token_logprob(id, logprob.logprob);
        entry["top_logprobs"] = top.into();
        entry
    }

    /// `bytes` are `null` for a token that is only part of a character.
    fn token_logprob(&self, id: u32, logprob: f32) -> Value {
        let text = self.engine.chat().token_text(id);
        let bytes = (!text.contains(char::REPLACEMENT_CHARACTER)).then_some(text.as_bytes());
        json!({ "token": text, "logprob": logprob, "bytes": bytes })
    }

    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, choice: usize, delta: &Value, logprobs: &Value, reason: Option<&str>) -> Value {
        let choice = json!({ "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason });
        self.chunk(&json!([choice]))
    }
}

/// OpenAI's usage object.
pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

impl Transcript for Wire {
    /// The role comes once: clients join repeated strings.
    fn opening(&mut self, choices: usize) -> Vec<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        (0..choices)
            .map(|choice| self.delta(choice, &delta, &Value::Null, None))
            .collect()
    }

    fn token(&mut self, choice: usize, token: &Token) -> Option<Value> {
        if token.text.is_empty() && token.logprob.is_none() {
            return None;
        }
        let logprobs = self.logprobs(std::slice::from_ref(token));
        Some(self.delta(choice, &json!({ "content": token.text }), &logprobs, None))
    }

    fn finish(&mut self, choice: usize, reason: FinishReason) -> Value {
        self.delta(choice, &json!({}), &Value::Null, Some(finish_reason(reason)))
    }

    fn closing(&mut self, total: Usage) -> Option<Value> {
        self.include_usage.then(|| {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage(total);
            chunk
        })
    }
}
