//! `POST /v1/routing/trace`: a look inside a model that sends tokens to modules. The text is read once more for it, beside
//! the requests, so that nobody pays for a trace who does not ask.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::body::{Form, read_object};
use crate::error::ApiError;
use crate::params::Params;
use crate::prepare::{Prompt, check_lengths, prepare};
use crate::tokenize::{place, prompt};
use crate::{ServerState, fields};

/// What each layer does with every token of a prompt and of an answer to it.
pub(crate) async fn look(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = read_object(&headers, body, Form::IsRefused)?;
    // Draining waits for it as for an answer.
    let _answering = state.accept()?;
    let engine = Arc::clone(state.engine()?);
    fields::check(&body, fields::MODULE_TRACE)?;
    let params = Params::new(&body);
    let adapter = state.adapter_of(params.text("model")?, &engine)?;
    let (prompt, param) = prompt(params)?;
    let answer = params.text("answer")?.unwrap_or_default().to_owned();
    if engine.modules().is_empty() {
        let problem =
            "sends every token through all of itself; only models of `model_type: synapse` have modules to trace";
        return Err(ApiError::field("model", problem).code("unsupported_parameter"));
    }
    let _place = place(&engine)?;
    let mut encoded = prepare(&engine, vec![prompt], param, None).await?.prompts.concat();
    let answer_from = encoded.len();
    if !answer.is_empty() {
        let prepared = prepare(&engine, vec![Prompt::Text(answer)], "answer", None).await?;
        encoded.extend(prepared.prompts.concat());
    }
    if encoded.is_empty() {
        return Err(ApiError::field(param, "holds no token"));
    }
    check_lengths(&state, std::slice::from_ref(&encoded), param)?;
    let looked = tokio::task::spawn_blocking(move || {
        let trace = engine.trace(&encoded, adapter.as_deref());
        let texts: Vec<Value> = encoded
            .iter()
            .map(|&id| json!({ "id": id, "text": engine.chat().token_text(id) }))
            .collect();
        trace.map(|trace| (trace, texts))
    });
    let (trace, tokens) = looked
        .await
        .map_err(|_| ApiError::internal("looking inside the model panicked"))?
        .map_err(|error| ApiError::from_engine(&error, param))?;
    let Some(trace) = trace else {
        return Err(ApiError::internal("a model with modules gave no trace"));
    };
    let layers: Vec<Value> = trace
        .layers
        .iter()
        .map(|layer| json!({ "weights": layer.weights, "memory_write": layer.writes, "memory_read": layer.reads }))
        .collect();
    Ok(Json(json!({
        "object": "module.trace",
        "modules": trace.modules,
        "tokens": tokens,
        "answer_from": answer_from,
        "layers": layers,
    })))
}
