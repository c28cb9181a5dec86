//! `POST /tokenize` and `POST /detokenize`: what the model reads of a text or conversation, in vLLM's format.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};
use synapse_engine::{Engine, Permit};

use crate::body::{Form, read_object};
use crate::error::ApiError;
use crate::params::Params;
use crate::prepare::{Prompt, encode};
use crate::{ServerState, fields, messages, prompts, tools};

/// The tokens that a completion of `prompt`, or an answer to `messages`, would begin from.
pub(crate) async fn tokenize(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body = read_object(&headers, body, Form::IsRefused)?;
    let engine = Arc::clone(state.engine()?);
    fields::check(&body, fields::TOKENIZE)?;
    let params = Params::new(&body);
    state.adapter_of(params.text("model")?, &engine)?;
    let with_texts = params.boolean("return_token_strs")?.unwrap_or(false);
    let (prompt, param) = prompt(params)?;
    let _place = place(&engine)?;
    let ids = encode(&state, &engine, vec![prompt], param).await?.concat();
    let mut answer = json!({ "count": ids.len(), "max_model_len": engine.context(), "tokens": ids });
    if with_texts {
        let texts: Vec<String> = ids.iter().map(|&id| engine.chat().token_text(id)).collect();
        answer["token_strs"] = texts.into();
    }
    Ok(Json(answer))
}

/// A place among the requests: a server that has no time for answers has none for this.
pub(crate) fn place(engine: &Engine) -> Result<Permit, ApiError> {
    engine.admit(1).map_err(|error| ApiError::from_engine(&error, "prompt"))
}

/// A text or a conversation, and the field that it came in.
pub(crate) fn prompt(params: Params<'_>) -> Result<(Prompt, &'static str), ApiError> {
    let conversation = params.get("messages").is_some();
    match params.text("prompt")? {
        Some(_) if conversation => Err(ApiError::field("prompt", "cannot be given beside `messages`")),
        Some(text) => match params.get("tools") {
            None => Ok((Prompt::Text(text.to_owned()), "prompt")),
            Some(_) => Err(ApiError::field("tools", "is only allowed with `messages`")),
        },
        None if conversation => {
            let prompt = Prompt::Messages(messages::read(params)?, tools::definitions(params)?);
            Ok((prompt, "messages"))
        }
        None => Err(ApiError::field("prompt", "or `messages` is required")),
    }
}

/// The text of tokens, control tokens by name.
pub(crate) async fn detokenize(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let body: Map<String, Value> = read_object(&headers, body, Form::IsRefused)?;
    let engine = Arc::clone(state.engine()?);
    fields::check(&body, fields::DETOKENIZE)?;
    let params = Params::new(&body);
    state.adapter_of(params.text("model")?, &engine)?;
    params.require("tokens")?;
    let ids = prompts::tokens(params.array("tokens")?.unwrap_or_default(), "tokens")?;
    let chat = engine.chat();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= chat.vocab_size()) {
        return Err(ApiError::field(
            "tokens",
            format!("holds {id}, which is no token of this model"),
        ));
    }
    let _place = place(&engine)?;
    let decoded = tokio::task::spawn_blocking({
        let chat = chat.clone();
        move || chat.decode(&ids, false)
    });
    let text = decoded
        .await
        .map_err(|_| ApiError::internal("decoding the tokens panicked"))?
        .map_err(|error| ApiError::from_chat(&error, "tokens"))?;
    Ok(Json(json!({ "prompt": text })))
}
