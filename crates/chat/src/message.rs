//! One turn of a conversation, as data files, recipes and the HTTP server write it.

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the model's template knows.
    pub role: String,
    /// The text as written; control tokens in it are text.
    pub content: String,
    /// Whether training learns this turn; only assistant turns are ever learnt.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub train: bool,
}

impl Message {
    /// A turn that is learnt if it is the assistant's.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            train: true,
        }
    }

    /// Whether this is an answer whose tokens are learnt.
    #[must_use]
    pub fn is_trained(&self) -> bool {
        self.train && self.role == "assistant"
    }
}

fn yes() -> bool {
    true
}

fn is_yes(train: &bool) -> bool {
    *train
}
