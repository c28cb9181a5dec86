//! Models on the CPU kernels: `synapse-nn` behind [`Model`].

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::{LoadOptions, LoraOptions, MicroBatch, Parameter, Pass, Precision, TrainableModel, WeightDtype};

use super::synapse::Synapse;
use crate::{TrainError, model::Model};

impl Model for TrainableModel {
    fn config(&self) -> &ModelConfig {
        self.decoder().config()
    }

    fn layout(&self) -> &[Parameter] {
        self.layout()
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        self.initial(seed)
    }

    fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, TrainError> {
        Ok(self.read_full(folder)?)
    }

    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        pass: &Pass,
    ) -> Result<f64, TrainError> {
        Ok(self.accumulate(parameters, gradients, batch, pass)?)
    }

    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, TrainError> {
        Ok(self.losses(parameters, batch)?)
    }
}

/// A LoRA adapter on a folder's weights.
///
/// # Errors
/// A missing or unreadable tensor, an unknown target module, or a storage that the architecture does not support.
pub fn lora(folder: &ModelFolder, load: &LoadOptions, options: LoraOptions) -> Result<Box<dyn Model>, TrainError> {
    Ok(if folder.config().has_attention() {
        Box::new(TrainableModel::lora(folder, load, options)?)
    } else {
        Box::new(Synapse::lora(folder, unquantized(load)?, options)?)
    })
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
    Ok(if config.has_attention() {
        Box::new(TrainableModel::lora_random(config, load, options)?)
    } else {
        Box::new(Synapse::lora_random(config, unquantized(load)?, options)?)
    })
}

/// The compute precision of a Synapse model, whose weights cannot be quantized.
fn unquantized(load: &LoadOptions) -> Result<Precision, TrainError> {
    match load.dtype {
        WeightDtype::F32 | WeightDtype::Bf16 => Ok(load.precision),
        WeightDtype::Nf4 { .. } | WeightDtype::Q4_0 | WeightDtype::Q8_0 => Err(TrainError::Unusable {
            what: "Synapse models cannot be quantized to 4 or 8 bits".into(),
            hint: "set `quantization: { type: none }` in the recipe, or pass `--quantization none`".into(),
        }),
    }
}

/// A model of this configuration, all of whose weights are trained.
///
/// # Errors
/// A configuration that the architecture does not support.
pub fn full(config: &ModelConfig, precision: Precision) -> Result<Box<dyn Model>, TrainError> {
    Ok(if config.has_attention() {
        Box::new(TrainableModel::full(config, precision)?)
    } else {
        Box::new(Synapse::full(config, precision)?)
    })
}
