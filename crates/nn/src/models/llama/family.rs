//! The Llama family as the table of families knows it.

use std::sync::Arc;

use synapse_checkpoint::{GgufModel, ModelConfig, ModelFolder};
use synapse_kernels::Precision;

use crate::{
    LanguageModel, LoadOptions, LoraOptions, NnError, TrainableModel, TrainingMemory, Workload,
    model_family::ModelFamily,
};

use super::{cost, decoder::Decoder, training::TrainableDecoder};

/// `model_type: llama`, `mistral`, `smollm3`, `qwen2` and `qwen3`.
#[derive(Debug)]
pub struct Llama;

impl ModelFamily for Llama {
    fn name(&self) -> &'static str {
        "Llama"
    }

    fn load(&self, folder: &ModelFolder, options: &LoadOptions) -> Result<Arc<dyn LanguageModel>, NnError> {
        Ok(Arc::new(Decoder::load_for_inference(folder, options)?))
    }

    fn load_gguf(&self, model: &GgufModel, precision: Precision) -> Result<Arc<dyn LanguageModel>, NnError> {
        Ok(Arc::new(Decoder::load_gguf(model, precision)?))
    }

    fn lora(
        &self,
        folder: &ModelFolder,
        load: &LoadOptions,
        options: LoraOptions,
    ) -> Result<Box<dyn TrainableModel>, NnError> {
        Ok(Box::new(TrainableDecoder::lora(folder, load, options)?))
    }

    fn random_lora(
        &self,
        config: &ModelConfig,
        load: &LoadOptions,
        options: LoraOptions,
    ) -> Result<Box<dyn TrainableModel>, NnError> {
        Ok(Box::new(TrainableDecoder::lora_random(config, load, options)?))
    }

    fn full(&self, config: &ModelConfig, precision: Precision) -> Result<Box<dyn TrainableModel>, NnError> {
        Ok(Box::new(TrainableDecoder::full(config, precision)?))
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
