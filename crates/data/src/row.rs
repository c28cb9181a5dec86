//! One row after normalization: a conversation or a document, and the fingerprints by which rows are compared.

use serde_json::Value;
use sha2::{Digest, Sha256};
use synapse_tokenizer::Message;

/// One row after normalization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    /// Rendered with the chat template; answers are trained.
    Chat(Dialogue),
    /// Plain text, trained whole.
    Document(String),
}

/// A conversation and what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dialogue {
    pub(crate) messages: Vec<Message>,
    /// Descriptions of functions that the assistant may call, as the row has them.
    pub(crate) tools: Vec<Value>,
    /// Tests of the answer; only held-out rows keep them.
    pub(crate) tests: Option<Value>,
}

impl From<Vec<Message>> for Row {
    fn from(messages: Vec<Message>) -> Self {
        Self::Chat(Dialogue {
            messages,
            ..Dialogue::default()
        })
    }
}

/// A row's text without case and runs of whitespace, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fingerprint([u8; 16]);

impl Row {
    /// Of everything that was written: rows with the same one are duplicates.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Document(text) => fingerprint([("", text.as_str())]),
            Self::Chat(dialogue) => {
                let calls: Vec<(&str, String)> = dialogue.calls().collect();
                let said = dialogue.messages.iter().map(|m| (m.role.as_str(), m.content.as_str()));
                let calls = calls.iter().map(|(name, arguments)| (*name, arguments.as_str()));
                // The model is shown the tools, so the same question with other tools is another row.
                let tools: Vec<String> = dialogue.tools.iter().map(ToString::to_string).collect();
                let tools = tools.iter().map(|tool| ("tools", tool.as_str()));
                fingerprint(said.chain(calls).chain(tools))
            }
        }
    }

    /// Of what is asked: a training row with the same one as a held-out row would give the answer away.
    pub(crate) fn prompt_fingerprint(&self) -> Fingerprint {
        match self {
            Self::Document(_) => self.fingerprint(),
            Self::Chat(dialogue) => fingerprint(
                dialogue
                    .messages
                    .iter()
                    .filter(|m| m.role == "user")
                    .map(|m| ("", m.content.as_str())),
            ),
        }
    }

    /// The text that rows are compared by: everything but system turns, one after the other.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Document(text) => text.clone(),
            Self::Chat(dialogue) => {
                let said = dialogue.messages.iter().filter(|message| message.role != "system");
                said.map(|message| message.content.as_str())
                    .collect::<Vec<_>>()
                    .join("\n")
            }
        }
    }

    /// Whether any of its texts satisfies this.
    pub(crate) fn any_text(&self, test: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Document(text) => test(text),
            Self::Chat(dialogue) => dialogue.messages.iter().any(|message| test(&message.content)),
        }
    }

    /// What a user asks, turn by turn; nothing for documents.
    pub(crate) fn prompts(&self) -> impl Iterator<Item = &str> {
        let messages: &[Message] = match self {
            Self::Document(_) => &[],
            Self::Chat(dialogue) => &dialogue.messages,
        };
        let asked = messages.iter().filter(|message| message.role == "user");
        asked.map(|message| message.content.as_str())
    }

    /// Characters of everything but system turns.
    pub(crate) fn chars(&self) -> usize {
        match self {
            Self::Document(text) => text.chars().count(),
            Self::Chat(dialogue) => {
                let said = dialogue.messages.iter().filter(|m| m.role != "system");
                let called = dialogue.calls().map(|(_, arguments)| arguments.chars().count());
                said.map(|m| m.content.chars().count()).chain(called).sum()
            }
        }
    }

    /// Puts a system turn first, unless the row has its own.
    pub(crate) fn with_system_prompt(mut self, prompt: Option<&str>) -> Self {
        if let (Self::Chat(Dialogue { messages, .. }), Some(prompt)) = (&mut self, prompt)
            && messages.first().is_some_and(|first| first.role != "system")
        {
            messages.insert(0, Message::new("system", prompt));
        }
        self
    }
}

impl Dialogue {
    /// The functions that are called, and with what.
    fn calls(&self) -> impl Iterator<Item = (&str, String)> {
        let calls = self.messages.iter().flat_map(|message| &message.tool_calls);
        calls.map(|call| (call.name.as_str(), call.arguments.to_string()))
    }
}

fn fingerprint<'m>(parts: impl IntoIterator<Item = (&'m str, &'m str)>) -> Fingerprint {
    let mut hasher = Sha256::new();
    for (role, content) in parts {
        hasher.update(role.as_bytes());
        for word in content.split_whitespace() {
            hasher.update(b" ");
            hasher.update(word.to_lowercase().as_bytes());
        }
        hasher.update(b"\n");
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize()[..16]);
    Fingerprint(first)
}

/// The fingerprint of a row that asks this.
pub(crate) fn fingerprint_of(prompt: &str) -> Fingerprint {
    fingerprint([("", prompt)])
}

impl Fingerprint {
    /// A row's place in the seeded order: sampling takes rows by it, so neither the order of a file nor rows added to
    /// it later change which of two rows comes first.
    pub(crate) fn priority(self, seed: u64) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update(seed.to_le_bytes());
        hasher.update(self.0);
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize()[..8]);
        u64::from_le_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_spacing_do_not_count_and_roles_do() {
        let chat = |role: &str, content: &str| Row::from(vec![Message::new(role, content)]);
        assert_eq!(chat("user", "A  b\n").fingerprint(), chat("user", "a B").fingerprint());
        assert_ne!(chat("user", "a b").fingerprint(), chat("user", "ab").fingerprint());
        assert_ne!(chat("user", "a").fingerprint(), chat("assistant", "a").fingerprint());
    }

    #[test]
    fn the_same_question_with_other_tools_is_another_row() {
        let with = |tools: &[&str]| {
            Row::Chat(Dialogue {
                messages: vec![Message::new("user", "q"), Message::new("assistant", "a")],
                tools: tools.iter().map(|name| serde_json::json!({"name": name})).collect(),
                tests: None,
            })
        };
        assert_ne!(with(&["f"]).fingerprint(), with(&["g"]).fingerprint());
        assert_ne!(with(&["f"]).fingerprint(), with(&[]).fingerprint());
        assert_eq!(with(&["f"]).fingerprint(), with(&["f"]).fingerprint());
    }

    #[test]
    fn a_rows_own_system_turn_wins() {
        let own = Row::from(vec![Message::new("system", "own"), Message::new("user", "q")]);
        assert_eq!(own.clone().with_system_prompt(Some("other")), own);
        let none = Row::from(vec![Message::new("user", "q")]);
        let Row::Chat(dialogue) = none.with_system_prompt(Some("other")) else {
            return;
        };
        assert_eq!(dialogue.messages[0], Message::new("system", "other"));
    }
}
