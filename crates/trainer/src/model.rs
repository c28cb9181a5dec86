//! The model as the loop sees it, whatever computes it.
//!
//! Parameters and gradients are the loop's: flat f32 buffers on the host, in the order of the layout. The models
//! here hold the frozen weights and compute losses and gradients; neither optimizer nor schedule is theirs.

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::{LoraOptions, MicroBatch, Parameter, Pass};
use synapse_recipe::{LoraPlan, Method};

use crate::{Device, TrainError, TrainRequest, TrainingBase, candle, kernels, synapse::RouterReport};

/// A model with trainable parameters.
pub(crate) trait Model {
    /// The configuration of the whole model.
    fn config(&self) -> &ModelConfig;

    /// The trainable tensors in the order they lie in the flat buffers.
    fn layout(&self) -> &[Parameter];

    /// Values to start from when training begins from nothing.
    fn initial(&self, seed: u64) -> Vec<f32>;

    /// Values of a full model to continue from.
    fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, TrainError>;

    /// Adds `pass.scale ·` the gradient of a micro-batch's summed loss to `gradients`, and returns the summed
    /// negative log-likelihood in nats.
    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        pass: &Pass,
    ) -> Result<f64, TrainError>;

    /// Summed negative log-likelihood and trained positions of each document, without gradients or dropout.
    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, TrainError>;

    /// What a model changes itself after an optimizer step, besides what its gradient does.
    fn adjust(&mut self, parameters: &mut [f32]) {
        let _ = parameters;
    }

    /// How the tokens since the last call were sent to modules, in a model that sends them.
    fn router_report(&mut self) -> Option<RouterReport> {
        None
    }

    /// Length of the flat buffers.
    fn parameters(&self) -> usize {
        self.layout().last().map_or(0, |last| last.range.end)
    }
}

/// Loads what a request trains to the device that it names.
pub(crate) fn load(request: &TrainRequest<'_>) -> Result<Box<dyn Model>, TrainError> {
    if let (Method::Lora(_), TrainingBase::Fresh(_)) = (request.method, &request.base) {
        return Err(TrainError::Unusable {
            what: "LoRA on a base without weights".into(),
            hint: "train it first with `train: { method: full }`".into(),
        });
    }
    if request.device != Device::Cpu && !request.base.config().has_attention() {
        return Err(TrainError::Unusable {
            what: format!("a Synapse model on {}", request.device),
            hint: "it trains on the CPU kernels: say --device cpu".into(),
        });
    }
    match request.device {
        Device::Cpu => kernels::load(request),
        Device::CandleCpu | Device::Cuda | Device::Metal => candle::load(request),
    }
}

/// LoRA's shape as the models take it.
pub(crate) fn lora_options(plan: &LoraPlan) -> LoraOptions {
    LoraOptions {
        rank: plan.rank,
        scale: plan.scale() as f32,
        dropout: plan.dropout,
        targets: plan.targets.clone(),
    }
}
