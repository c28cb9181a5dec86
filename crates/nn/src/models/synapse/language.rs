//! The language module: an xLSTM block around an mLSTM or an sLSTM cell (Beck et al. 2024, appendix A).
//!
//! This file is the choice between the two; each has a file of its own.

mod mlstm;
mod slstm;

use synapse_checkpoint::{ModelConfig, SynapseConfig};

use super::{layout::Layout, linear::Weights, recurrent_state::RecurrentState};

/// A layer's language module.
#[derive(Debug, Clone)]
pub(crate) enum Language {
    Mlstm(mlstm::Block),
    Slstm(slstm::Block),
}

/// What the backward pass needs.
#[derive(Debug)]
pub(crate) enum SavedActivations {
    Mlstm(mlstm::SavedActivations),
    Slstm(slstm::SavedActivations),
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
            Self::Slstm(slstm::Block::new(layout, prefix, config, modules))
        } else {
            Self::Mlstm(mlstm::Block::new(layout, prefix, config, modules))
        }
    }

    /// Values of a document's state.
    pub(crate) fn state_len(&self) -> usize {
        match self {
            Self::Mlstm(block) => block.state_len(),
            Self::Slstm(block) => block.state_len(),
        }
    }

    /// `u [t, hidden]` → `[t, hidden]`.
    pub(crate) fn forward(
        &self,
        weights: Weights<'_>,
        u: &[f32],
        lengths: &[usize],
        recurrent_state: RecurrentState<'_, '_>,
    ) -> (Vec<f32>, SavedActivations) {
        match self {
            Self::Mlstm(block) => {
                let (y, saved) = block.forward(weights, u, lengths, recurrent_state);
                (y, SavedActivations::Mlstm(saved))
            }
            Self::Slstm(block) => {
                let (y, saved) = block.forward(weights, u, lengths, recurrent_state);
                (y, SavedActivations::Slstm(saved))
            }
        }
    }

    /// Adds to `du` and the weights' gradients.
    pub(crate) fn backward(
        &self,
        weights: Weights<'_>,
        rows: (&[f32], &[usize]),
        saved: &mut SavedActivations,
        dy: &[f32],
        targets: (&mut [f32], &mut [f32]),
    ) {
        match (self, saved) {
            (Self::Mlstm(block), SavedActivations::Mlstm(saved)) => block.backward(weights, rows, saved, dy, targets),
            (Self::Slstm(block), SavedActivations::Slstm(saved)) => block.backward(weights, rows, saved, dy, targets),
            _ => unreachable!("a block gets back what it kept"),
        }
    }
}
