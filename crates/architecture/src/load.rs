//! Loading a folder of any architecture to generate with: the one place that chooses between them.

use std::sync::Arc;

use synapse_checkpoint::ModelFolder;
use synapse_nn::{Decoder, LanguageModel, LoadOptions, NnError, WeightDtype};

use crate::ServedSynapse;

/// Loads a model folder: a decoder with attention, or a Synapse model.
///
/// # Errors
/// A missing or unreadable tensor, or a storage that the architecture does not have.
pub fn load_to_generate(folder: &ModelFolder, options: &LoadOptions) -> Result<Arc<dyn LanguageModel>, NnError> {
    if folder.config().has_attention() {
        return Ok(Arc::new(Decoder::load_to_generate(folder, options)?));
    }
    if let WeightDtype::Nf4 { .. } = options.dtype {
        return Err(NnError::Unsupported {
            what: "4-bit storage of a Synapse model".into(),
            hint: "serve it without --quant".into(),
        });
    }
    Ok(Arc::new(ServedSynapse::load(folder, options.precision)?))
}
