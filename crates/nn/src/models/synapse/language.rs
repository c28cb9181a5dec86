//! The language module: an xLSTM block around an mLSTM or an sLSTM cell (Beck et al. 2024, appendix A).
//!
//! This file is the choice between the two; each has a file of its own.

mod matrix;
mod scalar;

use synapse_checkpoint::{ModelConfig, SynapseConfig};

use crate::models::synapse::{carry::Carry, layout::Layout, linear::Weights};

/// A layer's language module.
#[derive(Debug, Clone)]
pub(crate) enum Language {
    Matrix(matrix::Block),
    Scalar(scalar::Block),
}

/// What the backward pass needs.
#[derive(Debug)]
pub(crate) enum Kept {
    Matrix(matrix::Kept),
    Scalar(scalar::Kept),
}

impl Language {
    pub(crate) fn new(
        layout: &Layout,
        prefix: &str,
        layer: usize,
        config: &ModelConfig,
        modules: &SynapseConfig,
    ) -> Self {
        if modules.is_slstm(layer) {
            Self::Scalar(scalar::Block::new(layout, prefix, config, modules))
        } else {
            Self::Matrix(matrix::Block::new(layout, prefix, config, modules))
        }
    }

    /// Values of a document's state.
    pub(crate) fn state_len(&self) -> usize {
        match self {
            Self::Matrix(block) => block.state_len(),
            Self::Scalar(block) => block.state_len(),
        }
    }

    /// `u [t, hidden]` → `[t, hidden]`.
    pub(crate) fn forward(
        &self,
        weights: Weights<'_>,
        u: &[f32],
        lengths: &[usize],
        carry: Carry<'_, '_>,
    ) -> (Vec<f32>, Kept) {
        match self {
            Self::Matrix(block) => {
                let (y, kept) = block.forward(weights, u, lengths, carry);
                (y, Kept::Matrix(kept))
            }
            Self::Scalar(block) => {
                let (y, kept) = block.forward(weights, u, lengths, carry);
                (y, Kept::Scalar(kept))
            }
        }
    }

    /// Adds to `du` and the weights' gradients.
    pub(crate) fn backward(
        &self,
        weights: Weights<'_>,
        rows: (&[f32], &[usize]),
        kept: &mut Kept,
        dy: &[f32],
        targets: (&mut [f32], &mut [f32]),
    ) {
        match (self, kept) {
            (Self::Matrix(block), Kept::Matrix(kept)) => block.backward(weights, rows, kept, dy, targets),
            (Self::Scalar(block), Kept::Scalar(kept)) => block.backward(weights, rows, kept, dy, targets),
            _ => unreachable!("a block gets back what it kept"),
        }
    }
}
