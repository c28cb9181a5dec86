//! The errors of a merge, and whether the request was wrong or the work failed.

use std::path::{Path, PathBuf};

use synapse_checkpoint::CheckpointError;

/// Result of this crate's fallible functions.
pub type Result<T, E = MergeError> = std::result::Result<T, E>;

/// Why a merge stopped. Nothing has been published when one of these is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// The request cannot be carried out as it is written; every problem found is listed.
    #[error("{}", .0.join("\n"))]
    Request(Vec<String>),
    /// An input could not be read or the output could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The GGUF file could not be made.
    #[error(transparent)]
    Export(#[from] synapse_export::ExportError),
    /// A file other than a tensor file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The action that failed, as an infinitive: "read", "copy".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The model card could not be written.
    #[error("the model card could not be written: {0}")]
    Card(#[from] minijinja::Error),
    /// An input holds NaN or infinity, so no order statistic of it exists.
    #[error("{input}: {tensor} has a non-finite value in its change to the base; train or export that input again")]
    NotFinite {
        /// The input's name.
        input: String,
        /// The base's tensor name.
        tensor: String,
    },
    /// A method has no answer for a tensor.
    #[error("{tensor}: {problem}")]
    NoMean {
        /// The tensor name.
        tensor: String,
        /// What keeps it from having one.
        problem: String,
    },
    /// A folder differs from the merge of its merge.yaml.
    #[error(
        "{tensor}: entry {entry} is {found}, but the merge gives {expected}; the folder was changed, or written by another merge"
    )]
    Differs {
        /// The tensor name.
        tensor: String,
        /// Index of the first entry that differs.
        entry: usize,
        /// The value in the folder.
        found: f32,
        /// The value of the merge.
        expected: f32,
    },
    /// A merged value is NaN or infinite in the output's dtype.
    #[error(
        "{tensor}: a merged value is not finite as {dtype}; check the base and the weights, or choose a wider dtype"
    )]
    Overflow {
        /// The tensor name.
        tensor: String,
        /// The output's dtype.
        dtype: synapse_checkpoint::DType,
    },
    /// An input is not the one a merge.yaml was written for.
    #[error(
        "{}: contents have changed since the recipe was written: expected sha256 {expected}, found {found}; \
         remove that sha256 from the recipe's `synapse.inputs` to merge what is there now",
        path.display()
    )]
    InputChanged {
        /// The input's folder.
        path: PathBuf,
        /// The hash in the recipe.
        expected: String,
        /// The hash of what is on disk.
        found: String,
    },
}

impl MergeError {
    /// One problem with the request.
    pub(crate) fn request(problem: impl Into<String>) -> Self {
        Self::Request(vec![problem.into()])
    }

    /// A failed operation on an ordinary file.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// Whether the request was wrong (exit code 2) rather than the work that followed (exit code 1).
    pub fn is_request(&self) -> bool {
        matches!(self, Self::Request(_))
    }
}
