//! From a resolved data plan to packed, masked token rows on disk.
//!
//! Reads local files (fetching is the hub's), normalizes rows to conversations or documents, samples, sets rows aside
//! that training never sees, tokenizes with the model's own chat template, and packs. Also generates the coordinator's
//! routing data. The same inputs give the same bytes on every machine; whatever is left out is counted with its reason.
//!
//! What it does not do: download anything, or decide what is trained on.

mod allot;
mod beginning;
mod clean;
mod collect;
mod dataset;
mod error;
mod format;
mod held_out;
mod lengths;
mod manifest;
mod mix;
mod near;
mod origin;
mod overlap;
mod pack;
mod prepare;
mod prompts;
mod questions;
mod random;
mod read;
mod report;
mod request;
pub mod routing;
mod row;
mod tokenize;
mod words;

pub use beginning::{Beginning, Part, fetch_beginning};
pub use dataset::{PackedDataset, PackedRow};
pub use error::{DataError, Result};
pub use held_out::{HeldOutRow, read_held_out};
pub use lengths::{LENGTH_BARS, Lengths};
pub use manifest::{
    FORMAT_VERSION, FileManifest, Manifest, Overlength, OverlongManifest, RequestsManifest, RequestsSource,
    SourceManifest, SplitManifest,
};
pub use origin::{DocumentOrigin, read_origins};
pub use overlap::read_texts;
pub use prepare::prepare;
pub use questions::{read_questions, read_records};
pub use report::{Shares, is_non_commercial};
pub use request::{Benchmark, PrepareEvent, PrepareRequest, SourceFile, SourceFiles};
