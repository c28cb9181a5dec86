//! One turn of a conversation, as data files, recipes and the HTTP server write it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the model's template knows.
    pub role: String,
    /// The text as written; control tokens in it are text.
    pub content: String,
    /// Whether training learns this turn; only assistant turns are ever learned.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub train: bool,
    /// The functions that an assistant's turn calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Whose result a tool's turn is: the id of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A function that the model calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// What a result refers to.
    #[serde(default)]
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

impl Message {
    /// A turn that is learned if it is the assistant's.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            train: true,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// Whether this is an answer whose tokens are learned.
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
