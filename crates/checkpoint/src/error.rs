//! The crate's one error type. Every message names the file and the tensor or field, and what to do where that is known.

use std::io;
use std::path::{Path, PathBuf};

use crate::dtype::DType;

/// What can go wrong with a folder, a file or a tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb: "read", "write", "rename" …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A JSON file does not parse or lacks the expected form.
    #[error("{} is not valid: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's answer, with line and column.
        source: serde_json::Error,
    },
    /// A field of config.json or adapter_config.json has a value that is not supported or not valid.
    #[error("{}: `{field}` {message}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A file is shorter than its header says.
    #[error("{} is truncated or damaged: expected {expected} bytes, found {actual}; fetch or write it again", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes the header accounts for.
        expected: u64,
        /// Bytes the file has.
        actual: u64,
    },
    /// A safetensors or GGUF file breaks its format.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A tensor is there but cannot be used as asked.
    #[error("{}: tensor `{tensor}` {message}", path.display())]
    Tensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        message: String,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{tensor}` has the wrong shape: expected {expected:?}, found {found:?}", path.display())]
    Shape {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A folder is not of the kind it was opened as, or its tensors are not those of its configuration.
    #[error("{}: {message}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and the way out.
        message: String,
    },
}

/// This crate's results.
pub type Result<T, E = CheckpointError> = std::result::Result<T, E>;

impl CheckpointError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn field(path: &Path, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Field {
            path: path.to_owned(),
            field: field.into(),
            message: message.into(),
        }
    }

    pub(crate) fn format(path: &Path, message: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// A folder that is not what it should be.
    pub fn folder(path: &Path, message: impl Into<String>) -> Self {
        Self::Folder {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    /// A tensor that is not what it should be.
    pub fn tensor(path: &Path, tensor: &str, message: impl Into<String>) -> Self {
        Self::Tensor {
            path: path.to_owned(),
            tensor: tensor.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn not_floating(path: &Path, tensor: &str, dtype: DType) -> Self {
        Self::tensor(
            path,
            tensor,
            format!(
                "is {dtype}, not one of F32, F16, BF16: quantized folders are not read, take the unquantized model"
            ),
        )
    }
}
