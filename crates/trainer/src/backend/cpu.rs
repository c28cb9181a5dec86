//! Models of every family on the CPU kernels: `synapse-nn` behind [`Model`].

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::{
    LoadOptions, LoraOptions, MicroBatch, Parameter, Precision, StepContext, TrainableModel, models::family,
};

use crate::{RouterReport, TrainError, model::Model};

impl Model for Box<dyn TrainableModel> {
    fn config(&self) -> &ModelConfig {
        (**self).config()
    }

    fn layout(&self) -> &[Parameter] {
        (**self).layout()
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        (**self).initial(seed)
    }

    fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, TrainError> {
        Ok((**self).read_full(folder)?)
    }

    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<f64, TrainError> {
        Ok((**self).accumulate(parameters, gradients, batch, context)?)
    }

    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, TrainError> {
        Ok((**self).losses(parameters, batch)?)
    }

    fn post_step(&mut self, parameters: &mut [f32]) {
        (**self).post_step(parameters);
    }

    fn router_report(&mut self) -> Option<RouterReport> {
        (**self).take_router_statistics().map(RouterReport::from)
    }
}

/// A LoRA adapter on a folder's weights.
///
/// # Errors
/// A missing or unreadable tensor, an unknown target module, or a storage that the architecture does not support.
pub fn lora(folder: &ModelFolder, load: &LoadOptions, options: LoraOptions) -> Result<Box<dyn Model>, TrainError> {
    let model = family(folder.config().architecture).lora(folder, load, options)?;
    Ok(Box::new(model))
}

/// A LoRA adapter on random weights of a configuration's shape.
///
/// # Errors
/// An unknown target module, or a storage that the architecture does not support.
pub fn lora_random(
    config: &ModelConfig,
    load: &LoadOptions,
    options: LoraOptions,
) -> Result<Box<dyn Model>, TrainError> {
    let model = family(config.architecture).random_lora(config, load, options)?;
    Ok(Box::new(model))
}

/// A model of this configuration, all of whose weights are trained.
///
/// # Errors
/// A configuration that the architecture does not support.
pub fn full(config: &ModelConfig, precision: Precision) -> Result<Box<dyn Model>, TrainError> {
    Ok(Box::new(family(config.architecture).full(config, precision)?))
}
