//! `GET /v1/routing/trace`: the swarm's last decisions, newest first, so that nothing about routing is a black box.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use synapse_tokenizer::Message;

use crate::generation::finish_reason;
use crate::swarm::Decision;
use crate::synthesis::Draft;
use crate::{ServerState, identity};

/// Decisions that are kept.
const KEPT: usize = 256;
/// Characters of the last user turn that are kept with a decision.
const EXCERPT: usize = 120;

/// The last decisions of one server.
#[derive(Debug, Default)]
pub(crate) struct RoutingTrace {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    newest_first: VecDeque<Value>,
    /// Decisions so far.
    made: u64,
}

/// A decision that was kept, and is until [`KEPT`] others have been made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry(u64);

impl RoutingTrace {
    /// Keeps a decision about a conversation.
    pub(crate) fn record(&self, decision: &Decision, messages: &[Message]) -> Entry {
        let turn = messages.iter().rfind(|message| message.role == "user");
        let excerpt: String = turn.map_or("", |turn| &turn.content).chars().take(EXCERPT).collect();
        let mut entry = decision.body();
        entry["created"] = identity::unix_seconds().into();
        entry["turn"] = excerpt.into();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.newest_first.truncate(KEPT - 1);
        entries.newest_first.push_front(entry);
        entries.made += 1;
        Entry(entries.made)
    }

    /// Adds how long the drafts became that a decision asked for; their text is the client's alone.
    pub(crate) fn drafted(&self, entry: Entry, drafts: &[Draft]) {
        self.change(entry, |entry| {
            let kept = entry["drafts"].as_array_mut().into_iter().flatten();
            for (kept, draft) in kept.zip(drafts) {
                kept["tokens"] = draft.tokens.into();
                kept["finish_reason"] = draft.reason.map(finish_reason).into();
            }
        });
    }

    /// Says that nobody was asked after all.
    pub(crate) fn not_drafted(&self, entry: Entry) {
        self.change(entry, |entry| {
            entry.as_object_mut().map(|entry| entry.remove("drafts"));
        });
    }

    fn change(&self, Entry(number): Entry, change: impl FnOnce(&mut Value)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(entries.made - number).unwrap_or(KEPT);
        if let Some(entry) = entries.newest_first.get_mut(index) {
            change(entry);
        }
    }

    fn newest_first(&self) -> Vec<Value> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.newest_first.iter().cloned().collect()
    }
}

/// The decisions; none where there is no swarm.
pub(crate) async fn list(State(state): State<ServerState>) -> Json<Value> {
    Json(json!({ "object": "list", "data": state.trace().newest_first() }))
}
