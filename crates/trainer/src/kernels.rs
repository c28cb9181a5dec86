//! The engine's own model: `synapse-nn` over the CPU kernels.

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::{LoadOptions, LoraOptions, MicroBatch, Parameter, Pass, Precision, TrainableModel, WeightDtype};
use synapse_recipe::Method;

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
        (Method::Lora(plan), TrainingBase::Folder(folder)) => lora(folder, &options, lora_options(plan)),
        (_, base) => full(base.config(), options.precision),
    }
}

/// An adapter over a folder's weights.
pub(crate) fn lora(
    folder: &ModelFolder,
    load: &LoadOptions,
    options: LoraOptions,
) -> Result<Box<dyn Model>, TrainError> {
    Ok(if folder.config().has_attention() {
        Box::new(TrainableModel::lora(folder, load, options)?)
    } else {
        Box::new(Synapse::adapter(folder, unquantized(load)?, options)?)
    })
}

/// An adapter over random weights of a configuration's shape.
pub(crate) fn lora_random(
    config: &ModelConfig,
    load: &LoadOptions,
    options: LoraOptions,
) -> Result<Box<dyn Model>, TrainError> {
    Ok(if config.has_attention() {
        Box::new(TrainableModel::lora_random(config, load, options)?)
    } else {
        Box::new(Synapse::random_adapter(config, unquantized(load)?, options)?)
    })
}

/// The precision of a Synapse model's products, whose weights stay as they are.
fn unquantized(load: &LoadOptions) -> Result<Precision, TrainError> {
    match load.dtype {
        WeightDtype::F32 | WeightDtype::Bf16 => Ok(load.precision),
        WeightDtype::Nf4 { .. } | WeightDtype::Q4_0 | WeightDtype::Q8_0 => Err(TrainError::Unusable {
            what: "a Synapse model in 4 or 8 bits".into(),
            hint: "say `quantization: { type: none }` in a recipe, `--quantization none` on the command line".into(),
        }),
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
