//! What can go wrong while the bundled files are made.

use std::path::PathBuf;

/// This crate's result.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong while the bundled files are made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be put in place.
    #[error(transparent)]
    Checkpoint(#[from] synapse_checkpoint::CheckpointError),
    /// Rows could not be laid out as parquet.
    #[error("cannot encode parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Columns of different lengths or types.
    #[error("cannot build a record batch: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// A row could not be written as JSON.
    #[error("cannot encode JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The tokenizer could not be trained or serialized.
    #[error("cannot train the tokenizer: {0}")]
    Tokenizer(tokenizers::Error),
    /// The templates cannot give as many different rows as were asked for.
    #[error("{domain} gave only {found} different rows, {wanted} are needed: add templates or ask for fewer")]
    Exhausted {
        /// Which domain.
        domain: &'static str,
        /// Rows found.
        found: usize,
        /// Rows needed.
        wanted: usize,
    },
}
