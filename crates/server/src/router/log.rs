//! The most recent decisions of one server.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use synapse_tokenizer::Message;

use super::decision::{Decision, Draft};
use crate::identity;
use crate::wire::finish_reason;

/// The capacity of the log.
const CAPACITY: usize = 256;
/// Characters of the last user turn that are logged with a decision.
const EXCERPT: usize = 120;

/// The most recent decisions, up to [`CAPACITY`].
#[derive(Debug, Default)]
pub(crate) struct DecisionLog {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    newest_first: VecDeque<Value>,
    /// The number of decisions so far, including those no longer logged.
    made: u64,
}

/// Identifies a logged decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogEntry(u64);

impl DecisionLog {
    /// Logs the decision about a conversation.
    pub(crate) fn record(&self, decision: &Decision, messages: &[Message]) -> LogEntry {
        let turn = messages.iter().rfind(|message| message.role == "user");
        let excerpt: String = turn.map_or("", |turn| &turn.content).chars().take(EXCERPT).collect();
        let mut entry = decision.body();
        entry["created"] = identity::unix_seconds().into();
        entry["turn"] = excerpt.into();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.newest_first.truncate(CAPACITY - 1);
        entries.newest_first.push_front(entry);
        entries.made += 1;
        LogEntry(entries.made)
    }

    /// Adds the lengths of the drafts. Their text is not logged.
    pub(crate) fn add_drafts(&self, entry: LogEntry, drafts: &[Draft]) {
        self.change(entry, |entry| {
            let logged = entry["drafts"].as_array_mut().into_iter().flatten();
            for (logged, draft) in logged.zip(drafts) {
                logged["tokens"] = draft.tokens.into();
                logged["finish_reason"] = finish_reason(draft.reason).into();
            }
        });
    }

    /// Removes the drafts of a decision that are not written after all.
    pub(crate) fn remove_drafts(&self, entry: LogEntry) {
        self.change(entry, |entry| {
            entry.as_object_mut().map(|entry| entry.remove("drafts"));
        });
    }

    fn change(&self, LogEntry(number): LogEntry, change: impl FnOnce(&mut Value)) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(entries.made - number).unwrap_or(CAPACITY);
        if let Some(entry) = entries.newest_first.get_mut(index) {
            change(entry);
        }
    }

    /// All logged decisions, newest first.
    pub(crate) fn newest_first(&self) -> Vec<Value> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.newest_first.iter().cloned().collect()
    }
}
