//! `POST /v1/adapters` and `DELETE /v1/adapters/{name}`: loads and removes adapters while the server runs.
//!
//! Disabled unless the server has an adapters' folder. Only folders below it can be loaded, and links that lead out of it
//! are refused. Running requests keep the adapter they started with.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{self, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use synapse_engine::LoadAdapter;

use crate::adapter_root::AdapterRoot;
use crate::body::{BodyPolicy, RawBody};
use crate::error::ApiError;
use crate::params::Params;
use crate::{ServerState, fields};

/// Bytes of an adapter's name.
const MAX_NAME: usize = 128;

fn root(state: &ServerState) -> Result<AdapterRoot, ApiError> {
    state.options().adapters.clone().ok_or_else(|| {
        let message = "adapters cannot be changed while this server runs; start it with --adapter-root DIR";
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", message).code("adapters_fixed")
    })
}

/// Loads an adapter under a new name, or new content under an existing name.
pub(crate) async fn load(State(state): State<ServerState>, body: RawBody) -> Result<Json<Value>, ApiError> {
    let root = root(&state)?;
    let (engine, body) = body.read(&state, BodyPolicy::RequireJson, fields::ADAPTERS)?;
    let params = Params::new(&body);
    let name = name(params)?;
    if name == state.options().model {
        let message = format!("`{name}` is the base model; give the adapter another name");
        return Err(ApiError::conflict(message, "name_taken").param("name"));
    }
    let folder = root.resolve(params.require("path").and(params.text("path"))?.unwrap_or_default())?;
    let expected = params.text("expected_generation")?.map(str::to_owned);
    let loading = tokio::task::spawn_blocking(move || {
        engine.load_adapter(LoadAdapter {
            name: &name,
            folder: &folder,
            expected: expected.as_deref(),
            limit: root.limit,
        })
    });
    let info = loading
        .await
        .map_err(|_| ApiError::internal("loading the adapter panicked"))?
        .map_err(|error| ApiError::from_engine(&error, "name"))?;
    Ok(Json(
        json!({ "id": info.name, "object": "adapter", "generation": info.content_hash }),
    ))
}

fn name(params: Params<'_>) -> Result<String, ApiError> {
    let name = params.require("name").and(params.text("name"))?.unwrap_or_default();
    let is_allowed = |c: char| !c.is_control() && !c.is_whitespace();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_allowed) {
        let problem = format!("must be 1 to {MAX_NAME} bytes without spaces, found `{name}`");
        return Err(ApiError::field("name", problem));
    }
    Ok(name.to_owned())
}

/// Removes an adapter.
pub(crate) async fn remove(
    State(state): State<ServerState>,
    name: Result<extract::Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let extract::Path(name) = name?;
    root(&state)?;
    let engine = state.engine()?;
    engine
        .remove_adapter(&name)
        .map_err(|error| ApiError::from_engine(&error, "name"))?;
    Ok(Json(json!({ "id": name, "object": "adapter", "deleted": true })))
}
