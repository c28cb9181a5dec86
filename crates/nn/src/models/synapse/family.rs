//! The Synapse family as the table of families knows it.

use std::sync::Arc;

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_kernels::Precision;

use crate::{
    LanguageModel, LoadOptions, LoraOptions, NnError, TrainableModel, TrainingMemory, WeightDtype, Workload,
    model_family::ModelFamily,
};

use super::{
    cost, inference::SynapseCausalLm, lora_training::SynapseLora, model::SynapseModel, trainable::TrainableSynapse,
};

/// Mixture-of-experts models without attention, `model_type: synapse`.
#[derive(Debug)]
pub struct Synapse;

impl ModelFamily for Synapse {
    fn name(&self) -> &'static str {
        "Synapse"
    }

    fn load(&self, folder: &ModelFolder, options: &LoadOptions) -> Result<Arc<dyn LanguageModel>, NnError> {
        let precision = unquantized(options, "serve it without --quant")?;
        Ok(Arc::new(SynapseCausalLm::load(folder, precision)?))
    }

    fn lora(
        &self,
        folder: &ModelFolder,
        load: &LoadOptions,
        options: LoraOptions,
    ) -> Result<Box<dyn TrainableModel>, NnError> {
        let adapter = SynapseLora::new(folder, unquantized(load, TRAIN_HINT)?, options)?;
        Ok(Box::new(TrainableSynapse::from(adapter)))
    }

    fn random_lora(
        &self,
        config: &ModelConfig,
        load: &LoadOptions,
        options: LoraOptions,
    ) -> Result<Box<dyn TrainableModel>, NnError> {
        let adapter = SynapseLora::random(config, unquantized(load, TRAIN_HINT)?, options)?;
        Ok(Box::new(TrainableSynapse::from(adapter)))
    }

    fn full(&self, config: &ModelConfig, precision: Precision) -> Result<Box<dyn TrainableModel>, NnError> {
        Ok(Box::new(TrainableSynapse::from(SynapseModel::new(config, precision)?)))
    }

    fn memory(&self, workload: &Workload<'_>) -> TrainingMemory {
        cost::memory(workload)
    }

    fn trainable_parameters(&self, workload: &Workload<'_>) -> u64 {
        cost::trainable_parameters(workload)
    }

    fn flops(&self, workload: &Workload<'_>, target_share: f64) -> f64 {
        cost::flops(workload, target_share)
    }
}

const TRAIN_HINT: &str = "set `quantization: { type: none }` in the recipe, or pass `--quantization none`";

/// The precision of the products; the weights are always f32.
fn unquantized(options: &LoadOptions, hint: &str) -> Result<Precision, NnError> {
    match options.dtype {
        WeightDtype::F32 | WeightDtype::Bf16 => Ok(options.precision),
        WeightDtype::Nf4 { .. } | WeightDtype::Q4_0 | WeightDtype::Q8_0 => Err(NnError::Unsupported {
            what: "quantized storage of a Synapse model".into(),
            hint: hint.into(),
        }),
    }
}
