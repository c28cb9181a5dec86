//! `POST /tokenize` and `POST /detokenize`: what the model reads of a text or conversation, in vLLM's format.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use synapse_engine::{Engine, Permit};

use crate::body::{BodyPolicy, RawBody};
use crate::encoding::encode;
use crate::error::ApiError;
use crate::params::Params;
use crate::{ServerState, fields, prompts, target};

/// The tokens that a completion of `prompt`, or an answer to `messages`, would begin from.
pub(crate) async fn tokenize(State(state): State<ServerState>, body: RawBody) -> Result<Json<Value>, ApiError> {
    let (engine, body) = body.read(&state, BodyPolicy::RequireJson, fields::TOKENIZE)?;
    let params = Params::new(&body);
    target::adapter(params.text("model")?, &state, &engine)?;
    let with_texts = params.boolean("return_token_strs")?.unwrap_or(false);
    let (prompt, param) = prompts::text_or_conversation(params, &engine)?;
    let _permit = admit(&engine)?;
    let ids = encode(&state, &engine, vec![prompt], param).await?.concat();
    let mut answer = json!({ "count": ids.len(), "max_model_len": engine.context(), "tokens": ids });
    if with_texts {
        let texts: Vec<String> = ids.iter().map(|&id| engine.chat().token_text(id)).collect();
        answer["token_strs"] = texts.into();
    }
    Ok(Json(answer))
}

/// Admits work that is not a generation: a server at capacity refuses it as well.
pub(crate) fn admit(engine: &Engine) -> Result<Permit, ApiError> {
    engine.admit(1).map_err(|error| ApiError::from_engine(&error, "prompt"))
}

/// The text of tokens; special tokens are written by name.
pub(crate) async fn detokenize(State(state): State<ServerState>, body: RawBody) -> Result<Json<Value>, ApiError> {
    let (engine, body) = body.read(&state, BodyPolicy::RequireJson, fields::DETOKENIZE)?;
    let params = Params::new(&body);
    target::adapter(params.text("model")?, &state, &engine)?;
    params.require("tokens")?;
    let ids = prompts::tokens(params.array("tokens")?.unwrap_or_default(), "tokens")?;
    let chat = engine.chat();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= chat.vocab_size()) {
        return Err(ApiError::field(
            "tokens",
            format!("holds {id}, which is outside this model's vocabulary"),
        ));
    }
    let _permit = admit(&engine)?;
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
