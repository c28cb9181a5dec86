//! What can go wrong between a conversation and its tokens.

use std::path::{Path, PathBuf};

/// This crate's result.
pub type Result<T> = std::result::Result<T, TokenizerError>;

/// Everything that can go wrong between a conversation and its tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file of the model folder could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file of the model folder is invalid.
    #[error("{path}: {message}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        message: String,
    },
    /// A GGUF file lacks what the tokenizer needs.
    #[error(transparent)]
    Checkpoint(Box<synapse_checkpoint::CheckpointError>),
    /// The chat template is invalid or refuses the conversation.
    #[error("chat template: {0}")]
    Template(String),
    /// The folder has no chat template, so a conversation cannot be rendered.
    #[error(
        "no chat template in {folder} (neither chat_template.jinja nor `chat_template` in tokenizer_config.json); \
         add one, or use plain text",
        folder = folder.display()
    )]
    NoTemplate {
        /// The model folder.
        folder: PathBuf,
    },
    /// A message cannot be encoded safely.
    #[error("message {index} ({role}): {reason}")]
    Message {
        /// Position in the conversation, from 0.
        index: usize,
        /// Its role.
        role: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An argument of the chat template that it cannot take.
    #[error("template argument `{name}`: {reason}")]
    TemplateArgument {
        /// The argument.
        name: String,
        /// Why not, and which there are.
        reason: String,
    },
    /// The tools cannot be shown to the model.
    #[error("tools: {0}")]
    Tools(&'static str),
    /// No token ends a plain document.
    #[error(
        "no end-of-document token: the tokenizer has none of {tried}, and tokenizer_config.json names no eos_token"
    )]
    NoDocumentEnd {
        /// The names that were tried.
        tried: String,
    },
    /// The tokenizer itself failed.
    #[error("tokenizer: {0}")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<synapse_checkpoint::CheckpointError> for TokenizerError {
    fn from(error: synapse_checkpoint::CheckpointError) -> Self {
        Self::Checkpoint(Box::new(error))
    }
}

impl TokenizerError {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn invalid(path: &Path, message: impl Into<String>) -> Self {
        Self::Invalid {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn message(index: usize, role: &str, reason: impl Into<String>) -> Self {
        Self::Message {
            index,
            role: role.to_owned(),
            reason: reason.into(),
        }
    }
}
