//! `GET /v1/routing/trace`: the swarm's last decisions, newest first, so that nothing about routing is a black box.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use synapse_chat::Message;

use crate::swarm::Decision;
use crate::{ServerState, identity};

/// Decisions that are kept.
const KEPT: usize = 256;
/// Characters of the last user turn that are kept with a decision.
const EXCERPT: usize = 120;

/// The last decisions of one server.
#[derive(Debug, Default)]
pub(crate) struct RoutingTrace {
    entries: Mutex<VecDeque<Value>>,
}

impl RoutingTrace {
    /// Keeps a decision about a conversation.
    pub(crate) fn record(&self, decision: &Decision, messages: &[Message]) {
        let turn = messages.iter().rfind(|message| message.role == "user");
        let excerpt: String = turn.map_or("", |turn| &turn.content).chars().take(EXCERPT).collect();
        let mut entry = decision.body();
        entry["created"] = identity::unix_seconds().into();
        entry["turn"] = excerpt.into();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.truncate(KEPT - 1);
        entries.push_front(entry);
    }

    fn newest_first(&self) -> Vec<Value> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().cloned().collect()
    }
}

/// The decisions; none where there is no swarm.
pub(crate) async fn list(State(state): State<ServerState>) -> Json<Value> {
    Json(json!({ "object": "list", "data": state.trace().newest_first() }))
}
