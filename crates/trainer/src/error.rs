//! Errors of training.

use std::path::PathBuf;

use crate::Device;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// Reading or writing a model, adapter or checkpoint failed.
    #[error(transparent)]
    Checkpoint(#[from] synapse_checkpoint::CheckpointError),
    /// The model refused its input.
    #[error(transparent)]
    Model(#[from] synapse_nn::NnError),
    /// The prepared rows could not be read.
    #[error(transparent)]
    Data(#[from] synapse_data::DataError),
    /// A file of the run could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The request cannot be carried out.
    #[error("{what}: {hint}")]
    Unusable {
        /// What is wrong with the request.
        what: String,
        /// The way out.
        hint: String,
    },
    /// A device is not available, or an operation on it failed, for example because it is out of memory.
    #[error("cannot train on {device}: {source}")]
    Device {
        /// The device.
        device: Device,
        /// The driver's message, or how to build the device in.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The loss or a gradient stopped being a number.
    #[error("step {step}: the {what} is {value}; lower the learning rate{}", rows_hint(rows))]
    NotFinite {
        /// Optimizer step, from 1.
        step: u64,
        /// "loss" or "gradient norm".
        what: &'static str,
        /// NaN or infinite.
        value: f64,
        /// Dataset rows of the step's micro-batches; empty if they do not come from a dataset.
        rows: Vec<usize>,
    },
    /// A checkpoint is damaged.
    #[error("{path}: {problem}; remove that folder to resume from the checkpoint before it")]
    BadCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The user asked to stop; the state is saved.
    #[error("stopped at step {step} of {total}; run the same command again to resume there")]
    Interrupted {
        /// Steps done.
        step: u64,
        /// Steps planned.
        total: u64,
    },
}

impl TrainError {
    pub(crate) fn on(device: Device, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Device {
            device,
            source: source.into(),
        }
    }

    /// Full training is supported by the CPU kernels only.
    pub(crate) fn full_on(device: Device) -> Self {
        Self::Unusable {
            what: format!("`train: {{ method: full }}` is not supported on {device}"),
            hint: "train with LoRA there, or use `--device cpu`".into(),
        }
    }

    /// This build does not contain the device.
    pub(crate) fn not_built_in(device: Device) -> Self {
        let (feature, where_built) = match device {
            Device::Cpu | Device::CandleCpu => ("candle", ""),
            Device::Cuda => ("cuda", " on a machine with the CUDA toolkit"),
            Device::Metal => ("metal", " on macOS"),
        };
        let reason = format!(
            "this program was built without it; build it in{where_built} with `cargo build --release --locked -p synapse-train --features {feature}`"
        );
        Self::on(device, reason)
    }

    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Points at the rows, if the step's batches came from a dataset.
fn rows_hint(rows: &[usize]) -> String {
    if rows.is_empty() {
        String::new()
    } else {
        format!(", or look at rows {rows:?} of the training data with `data inspect`")
    }
}
