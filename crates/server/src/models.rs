//! `GET /v1/models` and `GET /health`: what there is, and whether it answers.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::ServerState;
use crate::error::ApiError;

/// The base, then its adapters with the base as `parent`.
pub(crate) async fn list(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    let ids = state.model_ids(state.engine()?);
    let data: Vec<Value> = ids.iter().map(|id| card(&state, id)).collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

/// One of them; ids may contain slashes.
pub(crate) async fn retrieve(
    State(state): State<ServerState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let ids = state.model_ids(state.engine()?);
    if ids.contains(&id) {
        Ok(Json(card(&state, &id)))
    } else {
        Err(ApiError::unknown_model(&id, &ids))
    }
}

fn card(state: &ServerState, id: &str) -> Value {
    let base = &state.options().model;
    let parent = (id != base).then_some(base);
    json!({ "id": id, "object": "model", "created": state.created(), "owned_by": "synapse", "parent": parent })
}

/// Ready, or an error of 503 that says why not.
pub(crate) async fn health(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    state.engine()?;
    Ok(Json(json!({ "status": "ok" })))
}
