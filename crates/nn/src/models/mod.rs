//! The model families, one folder each, and the table by which everything else finds them.
//!
//! To add a family: a folder here with a [`ModelFamily`], its line in [`family`], and its configuration in
//! `synapse-checkpoint`. Loading, training and cost estimates then work without further changes. What families share
//! lies at the root of this crate: linears, LoRA, rotary frequencies, the LM-head loss, caches and weight sources.

pub mod llama;
pub mod synapse;

use std::sync::Arc;

use synapse_checkpoint::{Architecture, ModelFiles};

pub use crate::model_family::ModelFamily;
use crate::{LanguageModel, LoadOptions, NnError, TrainingMemory, Workload};

/// The family of an architecture.
pub fn family(architecture: Architecture) -> &'static dyn ModelFamily {
    match architecture {
        Architecture::Llama
        | Architecture::Mistral
        | Architecture::SmolLM3
        | Architecture::Qwen2
        | Architecture::Qwen3 => &llama::Llama,
        Architecture::Synapse => &synapse::Synapse,
    }
}

/// Loads a model for inference, from a folder or a GGUF file. A GGUF file determines the storage of its
/// weights, so only the precision of the options applies.
///
/// # Errors
/// A missing or unreadable tensor, or a storage that the family does not support.
pub fn load(files: &ModelFiles, options: &LoadOptions) -> Result<Arc<dyn LanguageModel>, NnError> {
    match files {
        ModelFiles::Folder(folder) => family(folder.config().architecture).load(folder, options),
        ModelFiles::Gguf(model) => family(model.config().architecture).load_gguf(model, options.precision),
    }
}

impl Workload<'_> {
    /// Bytes by component at the peak of training.
    pub fn memory(&self) -> TrainingMemory {
        family(self.config.architecture).memory(self)
    }

    /// Number of trainable parameters.
    pub fn trainable_parameters(&self) -> u64 {
        family(self.config.architecture).trainable_parameters(self)
    }

    /// Floating-point operations of forward and backward over one micro-batch, a multiplication and an addition counted
    /// as two; `target_share` is the share of positions that have a target.
    pub fn flops(&self, target_share: f64) -> f64 {
        family(self.config.architecture).flops(self, target_share)
    }
}
