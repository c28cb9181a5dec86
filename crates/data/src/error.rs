//! Everything that can go wrong between a data file and a training row.

use std::path::{Path, PathBuf};

use synapse_checkpoint::CheckpointError;
use synapse_tokenizer::TokenizerError;

/// This crate's result.
pub type Result<T> = std::result::Result<T, DataError>;

/// Everything that can go wrong between a data file and a training row.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be opened, read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file does not have the format of its extension, at this place.
    #[error("{place}: {message}")]
    Malformed {
        /// `file`, `file:line` or `file: row N` (rows count from 1).
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A source's columns do not fit.
    #[error("{dataset}: {message}")]
    Columns {
        /// The source as the recipe names it.
        dataset: String,
        /// What is missing, and the remedy.
        message: String,
    },
    /// A source has fewer rows than requested, and the recipe is strict.
    #[error("{dataset}: {asked} rows were requested and {found} are available; lower `samples` or drop `strict: true`")]
    TooFewRows {
        /// The source as the recipe names it.
        dataset: String,
        /// Rows the recipe asked for.
        asked: u64,
        /// Rows that remain after filters and the held-out split.
        found: u64,
    },
    /// The routing generator cannot make that many different prompts.
    #[error("routing: {asked} different `{label}` prompts were requested and the templates give {found}")]
    TooFewPrompts {
        /// The label.
        label: String,
        /// Prompts asked for.
        asked: usize,
        /// Prompts found.
        found: usize,
    },
    /// The plan does not match the given files.
    #[error("{0}")]
    Request(String),
    /// No row is left to train on.
    #[error("no row is left to train on; dropped: {reasons}")]
    Empty {
        /// Counts by reason.
        reasons: String,
    },
    /// The tokenizer or the template fails.
    #[error(transparent)]
    Chat(#[from] TokenizerError),
    /// Hashing or writing a file fails.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl DataError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn malformed(place: &dyn std::fmt::Display, message: impl Into<String>) -> Self {
        Self::Malformed {
            place: place.to_string(),
            message: message.into(),
        }
    }
}
