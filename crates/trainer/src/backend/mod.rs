//! The backends that compute training steps, and the choice between them for a request.
//!
//! - [`cpu`]: `synapse-nn` over the CPU kernels, every model family.
//! - `candle`: the decoders in candle operations, on the CPU, CUDA or Metal (feature `candle`).

#[cfg_attr(not(feature = "candle"), path = "without_candle.rs")]
mod candle;
pub mod cpu;

use synapse_nn::LoraOptions;
use synapse_recipe::{LoraPlan, TrainingMethod};

use crate::{Device, TrainError, TrainRequest, TrainingBase, model::Model};

/// Loads the model that a request trains, on the request's device.
pub(crate) fn load(request: &TrainRequest<'_>) -> Result<Box<dyn Model>, TrainError> {
    if let (TrainingMethod::Lora(_), TrainingBase::RandomInit(_)) = (request.method, &request.base) {
        return Err(TrainError::Unusable {
            what: "LoRA needs a base with weights, and this base has none".into(),
            hint: "train it first with `train: { method: full }`".into(),
        });
    }
    match (request.device, request.method, &request.base) {
        (Device::Cpu, TrainingMethod::Lora(plan), TrainingBase::Folder(folder)) => {
            let load = crate::load_options(request.plan, request.quantization);
            cpu::lora(folder, &load, lora_options(plan))
        }
        (Device::Cpu, _, base) => {
            let load = crate::load_options(request.plan, request.quantization);
            cpu::full(base.config(), load.precision)
        }
        (Device::CandleCpu | Device::Cuda | Device::Metal, ..) => candle::load(request),
    }
}

/// Checks that this build and this machine have the device.
///
/// # Errors
/// [`TrainError::Device`] with the command that builds it in, or with the driver's message.
pub(crate) fn check(device: Device) -> Result<(), TrainError> {
    match device {
        Device::Cpu => Ok(()),
        Device::Cuda if !cfg!(feature = "cuda") => Err(TrainError::not_built_in(device)),
        Device::Metal if !cfg!(feature = "metal") => Err(TrainError::not_built_in(device)),
        Device::CandleCpu | Device::Cuda | Device::Metal => candle::check(device),
    }
}

/// A recipe's LoRA settings in the form the models take.
fn lora_options(plan: &LoraPlan) -> LoraOptions {
    LoraOptions {
        rank: plan.rank,
        scale: plan.scale() as f32,
        dropout: plan.dropout,
        targets: plan.targets.clone(),
    }
}
