//! `GET /v1/router/decisions`: the most recent decisions, newest first; empty for a server without a swarm.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::ServerState;

/// Lists the decisions.
pub(crate) async fn list(State(state): State<ServerState>) -> Json<Value> {
    Json(json!({ "object": "list", "data": state.decisions().newest_first() }))
}
