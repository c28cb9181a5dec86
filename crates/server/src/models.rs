//! `GET /v1/models` and `GET /health`: the models, and whether the server accepts requests.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use synapse_engine::Engine;

use crate::ServerState;
use crate::error::ApiError;
use crate::target::model_ids;

/// The base model, then its adapters with the base model as `parent`, then the swarm.
pub(crate) async fn list(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    let data = cards(&state, state.engine()?);
    Ok(Json(json!({ "object": "list", "data": data })))
}

/// One model; ids may contain slashes.
pub(crate) async fn retrieve(
    State(state): State<ServerState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id?;
    find(&state, &id)
}

/// The model `trace`: its path is also a route of its own, `POST /v1/models/trace`.
pub(crate) async fn retrieve_trace(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    find(&state, "trace")
}

fn find(state: &ServerState, id: &str) -> Result<Json<Value>, ApiError> {
    let engine = state.engine()?;
    match cards(state, engine).into_iter().find(|card| card["id"] == id) {
        Some(card) => Ok(Json(card)),
        None => Err(ApiError::unknown_model(id, &model_ids(state, engine))),
    }
}

/// `generation` identifies the content of an adapter.
fn cards(state: &ServerState, engine: &Engine) -> Vec<Value> {
    // Empty for a model without an expert router.
    let modules = engine.modules();
    let card = |id: &str, parent: Option<&str>, generation: Option<&str>| {
        json!({
            "id": id,
            "object": "model",
            "created": state.created(),
            "owned_by": "synapse",
            "parent": parent,
            "generation": generation,
            "modules": modules,
        })
    };
    let base = state.options().model.as_str();
    let adapters = engine.adapters();
    let adapters = adapters
        .iter()
        .map(|adapter| card(&adapter.name, Some(base), adapter.content_hash.as_deref()));
    let swarm = state.options().swarm.iter().map(|swarm| card(&swarm.name, None, None));
    std::iter::once(card(base, None, None))
        .chain(adapters)
        .chain(swarm)
        .collect()
}

/// Ready, or an error with status 503 that says why not.
pub(crate) async fn health(State(state): State<ServerState>) -> Result<Json<Value>, ApiError> {
    state.engine()?;
    Ok(Json(json!({ "status": "ok" })))
}
