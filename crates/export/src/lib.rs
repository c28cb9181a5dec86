//! Publishing a finished model: auxiliary files, GGUF files and the model card.
//!
//! - [`copy_tokenizer_files`], [`copy_auxiliary_files`] and [`write_config`]: the base's tokenizer, template and settings
//!   beside new weights;
//! - [`export_gguf`]: the whole model as one GGUF file;
//! - [`model_card`]: its README.md, from numbers handed in as [`CardData`].
//!
//! What this crate is not: it neither merges nor measures, and it changes weights only by rounding them to the type of a
//! file.

mod auxiliary_files;
mod card;
mod error;
mod gguf;

pub use auxiliary_files::{ConfigChanges, copy_auxiliary_files, copy_tokenizer_files, write_config};
pub use card::{
    CardComparison, CardData, CardDataset, CardGate, CardInput, CardKind, CardMerge, CardScore, CardSpecialist,
    Measured, model_card,
};
pub use error::{ExportError, Result};
pub use gguf::{GgufExport, GgufTarget, GgufType, export_gguf};
