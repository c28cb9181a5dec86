//! Errors of loading and running a model.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// The model or adapter folder could not be read.
    #[error(transparent)]
    Checkpoint(#[from] synapse_checkpoint::CheckpointError),
    /// A token id beyond the embedding.
    #[error(
        "token id {id} is outside the model's vocabulary of {vocab_size} tokens: tokenizer and model do not belong together"
    )]
    TokenOutOfRange {
        /// The offending id.
        id: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// More positions than the model supports.
    #[error("{positions} positions exceed the model's limit of {limit} (max_position_embeddings); shorten the text")]
    ContextOverflow {
        /// Positions requested.
        positions: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// A combination that this crate does not implement.
    #[error("{what} is not supported: {hint}")]
    Unsupported {
        /// What was requested.
        what: String,
        /// The remedy.
        hint: String,
    },
}
