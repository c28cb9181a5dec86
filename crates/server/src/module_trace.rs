//! `POST /v1/models/trace`: how each layer of a mixture-of-experts model routes every token of a text.
//!
//! The text is read again for the trace, in parallel with the requests, so that other requests do not pay for it.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::body::{BodyPolicy, RawBody};
use crate::encoding::{Prompt, check_lengths, encode_with_grammar};
use crate::error::ApiError;
use crate::params::Params;
use crate::tokenize::admit;
use crate::{ServerState, fields, prompts, target};

/// Traces a prompt and an answer to it.
pub(crate) async fn trace(State(state): State<ServerState>, body: RawBody) -> Result<Json<Value>, ApiError> {
    let (engine, body) = body.read(&state, BodyPolicy::RequireJson, fields::MODULE_TRACE)?;
    // Draining waits for it.
    let _guard = state.accept()?;
    let params = Params::new(&body);
    let adapter = target::adapter(params.text("model")?, &state, &engine)?;
    let (prompt, param) = prompts::text_or_conversation(params, &engine)?;
    let answer = params.text("answer")?.unwrap_or_default().to_owned();
    if engine.modules().is_empty() {
        let problem = "has no expert router to trace; only `model_type: synapse` models do";
        return Err(ApiError::field("model", problem).code("unsupported_parameter"));
    }
    let _permit = admit(&engine)?;
    let mut tokens = encode_with_grammar(&engine, vec![prompt], param, None)
        .await?
        .prompts
        .concat();
    let answer_from = tokens.len();
    if !answer.is_empty() {
        let encoded = encode_with_grammar(&engine, vec![Prompt::Text(answer)], "answer", None).await?;
        tokens.extend(encoded.prompts.concat());
    }
    if tokens.is_empty() {
        return Err(ApiError::field(param, "holds no token"));
    }
    check_lengths(&state, std::slice::from_ref(&tokens), param)?;
    let traced = tokio::task::spawn_blocking(move || {
        let trace = engine.trace(&tokens, adapter.as_deref());
        let texts: Vec<Value> = tokens
            .iter()
            .map(|&id| json!({ "id": id, "text": engine.chat().token_text(id) }))
            .collect();
        trace.map(|trace| (trace, texts))
    });
    let (trace, tokens) = traced
        .await
        .map_err(|_| ApiError::internal("tracing the model panicked"))?
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
