//! `POST /v1/adapters` and `DELETE /v1/adapters/{name}`: adapters that come and go while the server answers.
//!
//! Off unless the server was given a folder, and only what lies in that folder can be loaded, wherever its links point.
//! Requests that run keep the adapter they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{self, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use synapse_engine::LoadAdapter;

use crate::body::{Form, read_object};
use crate::error::ApiError;
use crate::params::Params;
use crate::{ServerState, fields};

/// Bytes of an adapter's name.
const MAX_NAME: usize = 128;

/// Where adapters may be loaded from while the server runs, and how many there may be.
#[derive(Debug, Clone)]
pub struct AdapterRoot {
    folder: PathBuf,
    limit: usize,
}

impl AdapterRoot {
    /// Adapters below `folder`, at most `limit` together with those the server began with.
    ///
    /// # Errors
    /// The folder is not there.
    pub fn new(folder: &Path, limit: usize) -> std::io::Result<Self> {
        let folder = folder.canonicalize()?;
        Ok(Self { folder, limit })
    }

    /// The folder that `path` names, which must lie below the root.
    fn resolve(&self, path: &str) -> Result<PathBuf, ApiError> {
        // One answer for all that is not there or not below: nothing outside can be probed.
        let outside = || ApiError::field("path", "is no folder below the adapters' folder");
        let folder = self.folder.join(path).canonicalize().map_err(|_| outside())?;
        if folder == self.folder || !folder.starts_with(&self.folder) {
            return Err(outside());
        }
        for entry in folder.read_dir().map_err(|_| outside())? {
            let target = entry.and_then(|entry| entry.path().canonicalize());
            if !target.is_ok_and(|target| target.starts_with(&self.folder)) {
                return Err(ApiError::field(
                    "path",
                    "holds a link that leads out of the adapters' folder",
                ));
            }
        }
        Ok(folder)
    }
}

fn root(state: &ServerState) -> Result<AdapterRoot, ApiError> {
    state.options().adapters.clone().ok_or_else(|| {
        let message = "adapters cannot be changed while this server runs; start it with --adapter-root DIR";
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", message).code("adapters_fixed")
    })
}

/// Loads an adapter, or another content for a name that there is.
pub(crate) async fn load(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let root = root(&state)?;
    let body = read_object(&headers, body, Form::IsRefused)?;
    let engine = Arc::clone(state.engine()?);
    fields::check(&body, fields::ADAPTERS)?;
    let params = Params::new(&body);
    let name = name(params)?;
    if name == state.options().model {
        let message = format!("`{name}` is the base; give the adapter another name");
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
    let is_fitting = |c: char| !c.is_control() && !c.is_whitespace();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_fitting) {
        let problem = format!("must be 1 to {MAX_NAME} bytes without spaces, found `{name}`");
        return Err(ApiError::field("name", problem));
    }
    Ok(name.to_owned())
}

/// Takes an adapter's name away.
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
