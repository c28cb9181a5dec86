//! Models on candle's devices: `synapse-candle` behind [`Model`].
//!
//! Products and activations have the recipe's `compute_dtype`. NF4 weights stay quantized on the device and are
//! dequantized for each product. The flat buffers stay on the host; they are copied to the device once per micro-batch.

use synapse_candle::{CandleError, CandleTrainer, DType, DeviceKind, WeightStorage};
use synapse_checkpoint::{ModelConfig, ModelFolder};
#[cfg(feature = "candle-datasets")]
use synapse_data::PackedRow;
use synapse_nn::{MicroBatch, Parameter, StepContext};
use synapse_recipe::{ComputeDtype, QuantizationPlan, TrainingMethod};

use super::lora_options;
use crate::{Device, TrainError, TrainRequest, TrainingBase, model::Model};

/// A LoRA adapter on frozen weights on a candle device.
struct CandleModel {
    device: Device,
    trainer: CandleTrainer,
}

impl CandleModel {
    fn failed(&self, error: CandleError) -> TrainError {
        TrainError::on(self.device, error)
    }
}

impl Model for CandleModel {
    fn config(&self) -> &ModelConfig {
        self.trainer.decoder().config()
    }

    fn layout(&self) -> &[Parameter] {
        self.trainer.layout()
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        self.trainer.initial(seed)
    }

    fn read_full(&self, _folder: &ModelFolder) -> Result<Vec<f32>, TrainError> {
        Err(TrainError::full_on(self.device))
    }

    #[cfg(feature = "candle-datasets")]
    fn micro_batches(&self, rows: &[PackedRow], batch_size: usize) -> Result<Vec<MicroBatch>, TrainError> {
        use synapse_candle::datasets::{BatchRow, micro_batches};
        let rows: Vec<BatchRow<'_>> = rows
            .iter()
            .map(|row| BatchRow {
                input_ids: &row.input_ids,
                labels: &row.labels,
                lengths: &row.seq_lengths,
            })
            .collect();
        micro_batches(&rows, batch_size).map_err(|error| TrainError::on(self.device, error))
    }

    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<f64, TrainError> {
        self.trainer
            .accumulate(parameters, gradients, batch, context)
            .map_err(|error| self.failed(error))
    }

    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, TrainError> {
        self.trainer
            .losses(parameters, batch)
            .map_err(|error| self.failed(error))
    }
}

/// Opens the device and closes it again.
pub(crate) fn check(device: Device) -> Result<(), TrainError> {
    open(device).map(|_| ())
}

/// Loads a base's weights to the device. Only adapters are trained there.
pub(crate) fn load(request: &TrainRequest<'_>) -> Result<Box<dyn Model>, TrainError> {
    let device = request.device;
    let (TrainingMethod::Lora(plan), TrainingBase::Folder(folder)) = (request.method, &request.base) else {
        return Err(TrainError::full_on(device));
    };
    let dtype = match request.plan.compute_dtype {
        ComputeDtype::F32 => DType::F32,
        ComputeDtype::Bf16 => DType::BF16,
    };
    let storage = match request.quantization {
        QuantizationPlan::None => WeightStorage::None,
        QuantizationPlan::Nf4 { double_quant, .. } => WeightStorage::Nf4 { double_quant },
    };
    let trainer = CandleTrainer::lora(folder, &open(device)?, dtype, storage, lora_options(plan))
        .map_err(|error| TrainError::on(device, error))?;
    Ok(Box::new(CandleModel { device, trainer }))
}

fn open(device: Device) -> Result<synapse_candle::Device, TrainError> {
    let choice = match device {
        Device::Cpu | Device::CandleCpu => DeviceKind::Cpu,
        Device::Cuda => DeviceKind::Cuda,
        Device::Metal => DeviceKind::Metal,
    };
    choice.open().map_err(|error| TrainError::on(device, error))
}
