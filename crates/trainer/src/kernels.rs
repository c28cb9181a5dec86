//! The engine's own model: `synapse-nn` over the CPU kernels.

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::{MicroBatch, Parameter, Pass, Precision, TrainableModel};
use synapse_recipe::{Method, Quantization};

use crate::{
    TrainError, TrainRequest, TrainingBase,
    budget::load_options,
    model::{Model, lora_options},
    synapse::Synapse,
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
    match (request.method, &request.base) {
        (Method::Lora(plan), TrainingBase::Folder(folder)) if !folder.config().has_attention() => {
            if request.quantization != Quantization::None {
                return Err(TrainError::Unusable {
                    what: "a Synapse model in 4 bits".into(),
                    hint: "say `quantization: { type: none }` in the recipe".into(),
                });
            }
            Ok(Box::new(Synapse::adapter(
                folder,
                options.precision,
                lora_options(plan),
            )?))
        }
        (Method::Lora(plan), TrainingBase::Folder(folder)) => {
            Ok(Box::new(TrainableModel::lora(folder, &options, lora_options(plan))?))
        }
        (_, base) => full(base.config(), options.precision),
    }
}

/// Room for every weight of a model of this configuration.
pub(crate) fn full(config: &ModelConfig, precision: Precision) -> Result<Box<dyn Model>, TrainError> {
    Ok(if config.has_attention() {
        Box::new(TrainableModel::full(config, precision)?)
    } else {
        Box::new(Synapse::whole(config, precision)?)
    })
}
