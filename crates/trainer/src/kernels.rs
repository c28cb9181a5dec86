//! The engine's own model: `synapse-nn` over the CPU kernels.

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::{MicroBatch, Parameter, Pass, TrainableModel};
use synapse_recipe::Method;

use crate::{
    TrainError, TrainRequest, TrainingBase,
    budget::load_options,
    model::{Model, lora_options},
};

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

/// Loads the base's weights, or makes room for trained ones.
pub(crate) fn load(request: &TrainRequest<'_>) -> Result<Box<dyn Model>, TrainError> {
    let options = load_options(request.plan, request.quantization);
    Ok(Box::new(match (request.method, &request.base) {
        (Method::Lora(plan), TrainingBase::Folder(folder)) => {
            TrainableModel::lora(folder, &options, lora_options(plan))?
        }
        (_, TrainingBase::Folder(folder)) => TrainableModel::full(folder.config(), options.precision)?,
        (_, TrainingBase::Fresh(config)) => TrainableModel::full(config, options.precision)?,
    }))
}
