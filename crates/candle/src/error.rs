//! What can go wrong when a model is loaded or run on a device.

use synapse_nn::NnError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandleError {
    /// The model or adapter folder could not be read.
    #[error(transparent)]
    Checkpoint(#[from] synapse_checkpoint::CheckpointError),
    /// A request that `synapse-nn` refuses in the same words.
    #[error(transparent)]
    Model(#[from] NnError),
    /// candle refused an operation; out of memory is among these.
    #[error("on the device: {0}")]
    Device(#[from] candle_core::Error),
    /// The device was asked for and cannot be had.
    #[error("cannot use {device}: {reason}")]
    Unavailable {
        /// `cuda` or `metal`.
        device: &'static str,
        /// What the driver says, or how to build with it.
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
    #[error("no gradient reached `{parameter}`: an operation between it and the loss has no backward pass")]
    GradientCut {
        /// The tensor left without a gradient.
        parameter: String,
    },
}
