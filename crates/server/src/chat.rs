//! `POST /v1/chat/completions`: from its fields to an order. `wire` writes the answers.

mod wire;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value};
use synapse_engine::{Engine, Grammar};

use crate::body::{Form, read_object};
use crate::error::ApiError;
use crate::generation::{Choices, Order};
use crate::params::Params;
use crate::prepare::Prompt;
use crate::sampling::{Streaming, read_n};
use crate::sse;
use crate::tools::{self, Tools};
use crate::{ServerState, fields, identity, messages, sampling};

use wire::Wire;
pub(crate) use wire::usage;

/// Answers a conversation.
pub(crate) async fn create(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = read_object(&headers, body, Form::IsJson(&state.options().allowed_origins))?;
    let engine = Arc::clone(state.engine()?);
    let (order, streaming) = read(&body, &state, &engine)?;
    let calls = matches!(order.prompts.as_slice(), [Prompt::Messages(_, tools)] if !tools.is_empty());
    let wire = Wire {
        id: identity::random_id("chatcmpl-"),
        created: identity::unix_seconds(),
        model: order.adapter.clone().unwrap_or_else(|| state.options().model.clone()),
        logprobs: order.sampling.logprobs.is_some(),
        include_usage: streaming.include_usage,
        parsers: calls.then(Vec::new),
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
    let tools = Tools::read(params)?;
    let streaming = Streaming::read(params)?;
    let mut sampling = sampling::read(params, state.options().defaults)?;
    sampling.logprobs = logprobs(params)?;
    let grammar = grammar(params, &tools, engine)?;
    if grammar.is_some() && sampling.ignore_eos {
        let problem = "cannot be combined with an answer whose form decides where it ends";
        return Err(ApiError::field("ignore_eos", problem));
    }
    let order = Order {
        prompts: vec![Prompt::Messages(messages, tools.shown().to_vec())],
        prompt_param: "messages",
        n: read_n(params, 1, state.options().max_choices)?,
        sampling,
        max_tokens: max_tokens(params)?,
        adapter,
        grammar,
    };
    Ok((order, streaming))
}

/// The form that the answer must have, from the tools or the response format.
fn grammar(params: Params<'_>, tools: &Tools, engine: &Engine) -> Result<Option<(Grammar, &'static str)>, ApiError> {
    let format = tools::response_format(params)?;
    if !tools.may_be_called() {
        return Ok(format.map(|grammar| (grammar, "response_format")));
    }
    if format.is_some() {
        let problem = "cannot be combined with tools that may be called; give `tool_choice: none` beside it";
        return Err(ApiError::field("response_format", problem).code("unsupported_parameter"));
    }
    if !engine.chat().has_call_tags() {
        let problem = "cannot be called by this model: its chat template does not write calls between <tool_call> and </tool_call>";
        return Err(ApiError::field("tools", problem).code("unsupported_parameter"));
    }
    Ok(tools.grammar().map(|grammar| (grammar, "tools")))
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
