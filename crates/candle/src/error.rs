//! Errors of loading and running a model on a device.

use synapse_nn::NnError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandleError {
    /// The model or adapter folder could not be read.
    #[error(transparent)]
    Checkpoint(#[from] synapse_checkpoint::CheckpointError),
    /// A request that `synapse-nn` refuses too.
    #[error(transparent)]
    Model(#[from] NnError),
    /// candle refused an operation, for example for lack of memory.
    #[error("candle reports: {0}; if memory ran out, lower train.batch_size or train.max_seq_len")]
    Device(#[from] candle_core::Error),
    /// The requested device is not available.
    #[error("cannot use {device}: {reason}")]
    Unavailable {
        /// `cuda` or `metal`.
        device: &'static str,
        /// The driver's message, or how to build with the device.
        reason: String,
    },
    /// A buffer of the wrong length.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements it should have.
        expected: usize,
        /// Elements it has.
        found: usize,
    },
    /// The tape ended before a trainable tensor: some operation between it and the loss has no backward pass.
    #[error(
        "no gradient was computed for `{parameter}`, because an operation between it and the loss has no backward pass; train with --device cpu and report this error"
    )]
    GradientCut {
        /// The tensor without a gradient.
        parameter: String,
    },
}
