//! The shapes that a dataset's rows may have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shape of a dataset's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `instruction`, `input` (may be empty), `output`.
    Alpaca,
    /// `question`, `answer`.
    QuestionAnswer,
    /// `conversations: [{from, value, weight}]`.
    Sharegpt,
    /// `messages: [{role, content}]`.
    Messages,
    /// `text`: plain documents for continued pre-training.
    Text,
    /// `prompt`, `completion`.
    PromptCompletion,
}

impl Format {
    /// Names of its fields, which are also the columns unless a `map:` says otherwise. All conversations may have a
    /// `system` turn, `tests` of the answer, and `tools` that the assistant may call.
    #[must_use]
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Alpaca => &["instruction", "input", "output", "system", "tests", "tools"],
            Self::QuestionAnswer => &["question", "answer", "system", "tests", "tools"],
            Self::Sharegpt => &["conversations", "system", "tests", "tools"],
            Self::Messages => &["messages", "system", "tests", "tools"],
            Self::Text => &["text"],
            Self::PromptCompletion => &["prompt", "completion", "system", "tests", "tools"],
        }
    }
}

words!(Format, "format" {
    Alpaca = "alpaca",
    QuestionAnswer = "question-answer",
    Sharegpt = "sharegpt",
    Messages = "messages",
    Text = "text",
    PromptCompletion = "prompt-completion",
});
