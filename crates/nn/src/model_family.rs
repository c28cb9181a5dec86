//! The contract of a model family: loading, training and cost estimates.

use std::sync::Arc;

use synapse_checkpoint::{GgufModel, ModelConfig, ModelFolder};
use synapse_kernels::Precision;

use crate::{LanguageModel, LoadOptions, LoraOptions, NnError, TrainableModel, TrainingMemory, Workload};

/// One family of models that share an architecture and its passes.
pub trait ModelFamily: Sync {
    /// Its name in messages.
    fn name(&self) -> &'static str;

    /// Loads a model folder for inference.
    ///
    /// # Errors
    /// A missing or unreadable tensor, or a storage that the family does not support.
    fn load(&self, folder: &ModelFolder, options: &LoadOptions) -> Result<Arc<dyn LanguageModel>, NnError>;

    /// Loads a GGUF file for inference. The file determines how the weights are stored.
    ///
    /// # Errors
    /// An unreadable tensor, or a family without a GGUF format.
    fn load_gguf(&self, model: &GgufModel, precision: Precision) -> Result<Arc<dyn LanguageModel>, NnError> {
        let _ = (model, precision);
        Err(NnError::Unsupported {
            what: format!("a {} model in a GGUF file", self.name()),
            hint: "load its model folder instead".into(),
        })
    }

    /// LoRA over the frozen weights of a model folder.
    ///
    /// # Errors
    /// An unreadable folder, a storage that the family does not support, or a target that is not a module of the model.
    fn lora(
        &self,
        folder: &ModelFolder,
        load: &LoadOptions,
        options: LoraOptions,
    ) -> Result<Box<dyn TrainableModel>, NnError>;

    /// LoRA over random frozen weights of this shape, for measuring what training costs.
    ///
    /// # Errors
    /// As [`ModelFamily::lora`].
    fn random_lora(
        &self,
        config: &ModelConfig,
        load: &LoadOptions,
        options: LoraOptions,
    ) -> Result<Box<dyn TrainableModel>, NnError>;

    /// A model whose every weight is trainable.
    ///
    /// # Errors
    /// A configuration of another family.
    fn full(&self, config: &ModelConfig, precision: Precision) -> Result<Box<dyn TrainableModel>, NnError>;

    /// Bytes by component at the peak of training.
    fn memory(&self, workload: &Workload<'_>) -> TrainingMemory;

    /// Number of trainable parameters.
    fn trainable_parameters(&self, workload: &Workload<'_>) -> u64;

    /// Floating-point operations of forward and backward over one micro-batch, a multiplication and an addition counted
    /// as two; `target_share` is the share of positions that have a target.
    fn flops(&self, workload: &Workload<'_>, target_share: f64) -> f64;
}
