//! `POST /v1/embeddings`: texts as vectors.
//!
//! A vector is the mean of the text's hidden states after the model's last norm, scaled to length 1, so that a dot
//! product is a cosine similarity. The models are trained to continue text, so these vectors separate related texts from
//! others less well than those of an embedding model.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use synapse_engine::Engine;

use crate::body::{BodyPolicy, RawBody};
use crate::encoding::encode;
use crate::error::ApiError;
use crate::params::Params;
use crate::{ServerState, fields, prompts, target};

/// The field with the texts.
const INPUT: &str = "input";

/// Embeds one or several texts.
pub(crate) async fn create(State(state): State<ServerState>, body: RawBody) -> Result<Json<Value>, ApiError> {
    let (engine, body) = body.read(&state, BodyPolicy::RequireJson, fields::EMBEDDINGS)?;
    let params = Params::new(&body);
    let adapter = target::adapter(params.text("model")?, &state, &engine)?;
    let texts = prompts::read(params, INPUT)?;
    let limit = state.options().max_inputs;
    if texts.len() > limit {
        let problem = format!("may hold at most {limit} texts, found {}", texts.len());
        return Err(ApiError::field(INPUT, problem));
    }
    let as_base64 = encoding(params)?;
    check_dimensions(params, &engine)?;

    let _guard = state.accept()?;
    let refused = |error| ApiError::from_engine(&error, INPUT);
    let mut permit = engine.admit(1).map_err(refused)?;
    let texts = encode(&state, &engine, texts, INPUT).await?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let receivers = engine.embed(texts, adapter.as_deref(), &mut permit).map_err(refused)?;
    let mut data = Vec::with_capacity(receivers.len());
    for (index, receiver) in receivers.into_iter().enumerate() {
        let vector = receiver.await;
        let vector = vector.map_err(|_| {
            ApiError::unavailable("the server shut down before the embeddings were complete", "stopped")
        })?;
        let vector = vector.map_err(refused)?;
        let written = if as_base64 {
            in_base64(&vector)
        } else {
            in_numbers(&vector)
        };
        data.push(json!({ "object": "embedding", "index": index, "embedding": written }));
    }
    Ok(Json(json!({
        "object": "list",
        "data": data,
        "model": adapter.unwrap_or_else(|| state.options().model.clone()),
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })))
}

fn encoding(params: Params<'_>) -> Result<bool, ApiError> {
    match params.text("encoding_format")? {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(other) => {
            let problem = format!("must be float or base64, found `{other}`");
            Err(ApiError::field("encoding_format", problem))
        }
    }
}

/// A truncated vector is not meaningful for models that were not trained for it.
fn check_dimensions(params: Params<'_>, engine: &Engine) -> Result<(), ApiError> {
    let size = engine.embedding_size();
    match params.count("dimensions")? {
        Some(wanted) if wanted != size => {
            let problem = format!("may only be {size}, the width of this model, found {wanted}");
            Err(ApiError::field("dimensions", problem).code("unsupported_parameter"))
        }
        _ => Ok(()),
    }
}

/// Little-endian f32, as OpenAI's clients ask for unless told otherwise.
fn in_base64(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes).into()
}

/// The shortest decimals that read back as these f32.
fn in_numbers(vector: &[f32]) -> Value {
    let number = |value: &f32| value.to_string().parse::<f64>().unwrap_or(f64::from(*value));
    vector.iter().map(number).collect()
}
