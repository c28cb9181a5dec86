//! One turn of a conversation, as data files, recipes and the HTTP server write it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or whatever else the model's template knows.
    pub role: String,
    /// The text as written; special tokens in it are plain text.
    pub content: String,
    /// Whether this turn is a training target; only assistant turns are ever targets.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub train: bool,
    /// What the assistant thought before this turn, where it is kept apart from the content. Only templates that know the
    /// field show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The functions that an assistant turn calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// For the turn of a tool, the id of the call whose result it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A function call by the model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// The id that the result refers to.
    #[serde(default)]
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Its arguments, a JSON object.
    pub arguments: Value,
}

impl Message {
    /// A turn that is a training target if it is the assistant's.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            train: true,
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// Whether this is an answer whose tokens are training targets.
    #[must_use]
    pub fn is_target(&self) -> bool {
        self.train && self.role == "assistant"
    }
}

fn yes() -> bool {
    true
}

fn is_yes(train: &bool) -> bool {
    *train
}
