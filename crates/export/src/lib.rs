//! What a finished model is published as, besides its weights.
//!
//! - [`copy_tokenizer_files`], [`copy_auxiliary_files`] and [`write_config`]: the base's tokenizer, template and settings
//!   beside new weights;
//! - [`export_gguf`]: the whole model as one GGUF file;
//! - [`model_card`]: its README.md, from numbers handed in as [`CardData`].
//!
//! Merging and measuring are other crates' work; nothing here changes a weight but by rounding it to a file's type.

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
