//! Loading a folder of any architecture to generate with: the one place that chooses between them.

use std::sync::Arc;

use crate::{Decoder, LanguageModel, LoadOptions, NnError, WeightDtype};
use synapse_checkpoint::{ModelFiles, ModelFolder};

use super::synapse::ServedSynapse;

/// Loads a model of either form. A GGUF file says itself what its weights are stored as; of the options only the
/// precision counts.
///
/// # Errors
/// As [`load_to_generate`].
pub fn load_files_to_generate(files: &ModelFiles, options: &LoadOptions) -> Result<Arc<dyn LanguageModel>, NnError> {
    match files {
        ModelFiles::Folder(folder) => load_to_generate(folder, options),
        ModelFiles::Gguf(model) => Ok(Arc::new(Decoder::load_gguf(model, options.precision)?)),
    }
}

/// Loads a model folder: a decoder with attention, or a Synapse model.
///
/// # Errors
/// A missing or unreadable tensor, or a storage that the architecture does not have.
pub fn load_to_generate(folder: &ModelFolder, options: &LoadOptions) -> Result<Arc<dyn LanguageModel>, NnError> {
    if folder.config().has_attention() {
        return Ok(Arc::new(Decoder::load_to_generate(folder, options)?));
    }
    if !matches!(options.dtype, WeightDtype::F32 | WeightDtype::Bf16) {
        return Err(NnError::Unsupported {
            what: "quantized storage of a Synapse model".into(),
            hint: "serve it without --quant".into(),
        });
    }
    Ok(Arc::new(ServedSynapse::load(folder, options.precision)?))
}
