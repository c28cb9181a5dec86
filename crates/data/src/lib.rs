//! Prepares training data: from a resolved data plan and files to packed token rows with labels.
//!
//! [`prepare`] reads local files, normalizes rows to conversations or documents, samples them, holds rows out, tokenizes
//! with the model's chat template, and packs. The same inputs give the same bytes on every machine. Every row that is
//! left out is counted with its reason in the [`Manifest`].
//!
//! What this is not: it downloads nothing, and it does not decide what is trained on; the plan does.
//!
//! - [`prepare`] with a [`PrepareRequest`]: writes train.arrow, held_out.arrow and manifest.json.
//! - [`PackedDataset`]: reads the packed rows back, memory-mapped.
//! - [`Manifest`]: what the data was made of, with a report and limits.
//! - [`fetch_first_rows`]: the first rows of a file whose bytes arrive on demand.
//! - [`read_questions`], [`read_records`], [`read_texts`], [`read_held_out`]: rows for evaluation.
//! - [`routing`]: generates the coordinator's training data.
//!
//! Rows of any supported format are normalized to conversations:
//!
//! ```
//! use synapse_data::{SourceFile, read_questions};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("questions.jsonl");
//! std::fs::write(&path, "{\"question\": \"What is 2 + 2?\", \"answer\": \"4\"}\n")?;
//!
//! let questions = read_questions(&[SourceFile::local(&path)?])?;
//! assert_eq!(questions, [("What is 2 + 2?".to_owned(), "4".to_owned())]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod apportion;
mod collect;
mod dataset;
mod decontaminate;
mod dedup;
mod documents;
mod error;
mod first_rows;
mod format;
mod held_out;
mod lengths;
mod manifest;
mod minhash;
mod mix;
mod pack;
mod prepare;
mod provenance;
mod questions;
mod random;
mod read;
mod referenced_requests;
mod report;
mod request;
pub mod routing;
mod row;
mod shingles;
mod source;
mod source_manifest;
mod tokenize;

pub use dataset::{PackedDataset, PackedRow};
pub use decontaminate::read_texts;
pub use error::{DataError, Result};
pub use first_rows::{FirstRows, RemoteFile, fetch_first_rows};
pub use held_out::{HeldOutRow, read_held_out};
pub use lengths::{LENGTH_BARS, Lengths};
pub use manifest::{
    FORMAT_VERSION, FileManifest, Manifest, Overlength, OverlongManifest, RequestsManifest, RequestsSource,
    SourceManifest, SplitManifest,
};
pub use prepare::prepare;
pub use provenance::{DocumentOrigin, read_origins};
pub use questions::{read_questions, read_records};
pub use report::{Shares, is_non_commercial};
pub use request::{Benchmark, PrepareEvent, PrepareRequest, SourceFile, SourceFiles};
