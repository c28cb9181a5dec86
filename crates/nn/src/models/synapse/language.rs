//! The language module: an xLSTM block around an mLSTM or an sLSTM cell (Beck et al. 2024, appendix A).
//!
//! This file chooses between the two; each has a file of its own.

mod mlstm;
mod slstm;

use synapse_checkpoint::{ModelConfig, SynapseConfig};

use super::{
    layout::Layout,
    linear::Weights,
    recurrent_state::RecurrentState,
    sequence_module::{ModuleGradients, ModuleInput, SequenceModule},
};

/// A layer's language module.
#[derive(Debug, Clone)]
pub(crate) enum Language {
    Mlstm(mlstm::Block),
    Slstm(slstm::Block),
}

/// Saved for the backward pass.
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
}

impl SequenceModule for Language {
    type Saved = SavedActivations;

    fn state_len(&self) -> usize {
        match self {
            Self::Mlstm(block) => block.state_len(),
            Self::Slstm(block) => block.state_len(),
        }
    }

    fn forward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        state: RecurrentState<'_, '_>,
    ) -> (Vec<f32>, Self::Saved) {
        match self {
            Self::Mlstm(block) => {
                let (y, saved) = block.forward(weights, input, state);
                (y, SavedActivations::Mlstm(saved))
            }
            Self::Slstm(block) => {
                let (y, saved) = block.forward(weights, input, state);
                (y, SavedActivations::Slstm(saved))
            }
        }
    }

    fn backward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        saved: &mut Self::Saved,
        dy: &[f32],
        gradients: ModuleGradients<'_>,
    ) {
        match (self, saved) {
            (Self::Mlstm(block), SavedActivations::Mlstm(saved)) => {
                block.backward(weights, input, saved, dy, gradients);
            }
            (Self::Slstm(block), SavedActivations::Slstm(saved)) => {
                block.backward(weights, input, saved, dy, gradients);
            }
            _ => unreachable!("a block gets back what it saved"),
        }
    }
}
