//! The decision about one conversation, and how responses write it.

use serde_json::{Value, json};
use synapse_engine::FinishReason;

use super::config::BASE;
use crate::wire::finish_reason;

/// Where a conversation is routed, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) adapter: Option<String>,
    pub(crate) reason: Reason,
    /// The most likely label of the turn that decided, or of the last turn if none did.
    pub(crate) label: String,
    /// Probabilities of all labels for that turn.
    pub(crate) scores: Vec<(String, f64)>,
    pub(crate) milliseconds: f64,
    /// Adapters that write drafts first, the most likely first; empty for a single adapter.
    pub(crate) proposers: Vec<Proposer>,
}

/// An adapter that writes a draft.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Proposer {
    pub(crate) adapter: String,
    /// The probability of its label.
    pub(crate) score: f64,
    /// `None` until it is written.
    pub(crate) draft: Option<Draft>,
}

/// Which turn decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// The last user turn.
    CurrentTurn,
    /// An earlier turn, because the last one was below the threshold.
    PreviousTurn,
    /// All turns were below the threshold: the base model.
    BelowThreshold,
}

impl Reason {
    /// The name in responses and metrics.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::CurrentTurn => "routed",
            Self::PreviousTurn => "kept",
            Self::BelowThreshold => "unsure",
        }
    }
}

impl Decision {
    /// The adapter's name, or `base`.
    pub(crate) fn target(&self) -> &str {
        self.adapter.as_deref().unwrap_or(BASE)
    }

    /// The decision as responses write it.
    pub(crate) fn body(&self) -> Value {
        let scores: serde_json::Map<String, Value> = self
            .scores
            .iter()
            .map(|(label, score)| (label.clone(), Value::from(*score)))
            .collect();
        let mut body = json!({
            "adapter": self.target(),
            "reason": self.reason.id(),
            "label": self.label,
            "scores": scores,
            "router_ms": self.milliseconds,
        });
        if !self.proposers.is_empty() {
            body["drafts"] = self.proposers.iter().map(Proposer::body).collect();
        }
        body
    }

    /// Adds the drafts, in the order of the proposers.
    pub(crate) fn add_drafts(&mut self, drafts: Vec<Draft>) {
        for (proposer, draft) in self.proposers.iter_mut().zip(drafts) {
            proposer.draft = Some(draft);
        }
    }
}

impl Proposer {
    fn body(&self) -> Value {
        let mut body = json!({ "adapter": self.adapter, "score": self.score });
        if let Some(draft) = &self.draft {
            body["tokens"] = draft.tokens.into();
            body["finish_reason"] = finish_reason(draft.reason).into();
            body["text"] = draft.text.as_str().into();
        }
        body
    }
}

/// What one proposer wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) tokens: usize,
    pub(crate) reason: FinishReason,
}
