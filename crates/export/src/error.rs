//! The crate's one error type. Messages name the file and the tensor or field, and the way out where one is known.

use std::io;
use std::path::{Path, PathBuf};

use synapse_checkpoint::CheckpointError;

/// Why a model could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A model folder or file could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file could not be read.
    #[error("could not read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A JSON file does not parse.
    #[error("{} is not valid: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's answer, with line and column.
        source: serde_json::Error,
    },
    /// A file says something that the exported format cannot hold.
    #[error("{}: `{field}` {message}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A tensor holds values that the exported type cannot.
    #[error("tensor `{tensor}` {message}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong, and the way out.
        message: String,
    },
    /// The template of the model card could not be rendered.
    #[error("the template of the model card is faulty, which is a bug of this program: {0}")]
    Card(String),
    /// A GGUF type that this crate does not write.
    #[error("`{0}` is not a GGUF type that can be written; supported: f16, bf16, q8_0, q4_0")]
    UnknownType(String),
}

/// This crate's results.
pub type Result<T, E = ExportError> = std::result::Result<T, E>;

impl ExportError {
    pub(crate) fn unsupported(path: &Path, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unsupported {
            path: path.to_owned(),
            field: field.into(),
            message: message.into(),
        }
    }
}
