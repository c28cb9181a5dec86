//! What can go wrong while training.

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
    /// There is nothing to learn from.
    #[error("{what}: {hint}")]
    Unusable {
        /// What is wrong with the request.
        what: String,
        /// The way out.
        hint: String,
    },
    /// A device cannot be had, or refused an operation; out of memory is among these.
    #[error("cannot train on {device}: {source}")]
    Device {
        /// The device.
        device: Device,
        /// What it or its driver says, or how to build with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The loss or a gradient stopped being a number.
    #[error(
        "step {step}: the {what} is {value} in rows {rows:?} of the training data; lower the learning rate or look at those rows with `data inspect`"
    )]
    NotFinite {
        /// Optimizer step, from 1.
        step: u64,
        /// "loss" or "gradient norm".
        what: &'static str,
        /// NaN or infinite.
        value: f64,
        /// Rows of the step's micro-batches.
        rows: Vec<usize>,
    },
    /// A checkpoint's file does not hold what its description says.
    #[error("{path}: {problem}; remove that folder to go on from the one before")]
    BadCheckpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The user asked to stop; the state is saved.
    #[error("stopped at step {step} of {total}; the same command resumes there")]
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

    /// Every weight is trained by the kernels alone.
    pub(crate) fn full_on(device: Device) -> Self {
        Self::Unusable {
            what: format!("`train: {{ method: full }}` on {device}"),
            hint: "only LoRA is trained there; use `--device cpu`".into(),
        }
    }

    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
