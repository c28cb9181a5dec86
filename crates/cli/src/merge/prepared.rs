//! A merge request that is ready to run, with what the user should be told first.

use synapse_merge::{MergeError, MergeRequest};

/// A request and its notes.
pub(crate) struct PreparedMerge {
    pub(crate) request: MergeRequest,
    pub(crate) notes: Vec<String>,
}

/// A request with one problem.
pub(crate) fn request_error(problem: impl Into<String>) -> MergeError {
    MergeError::Request(vec![problem.into()])
}
