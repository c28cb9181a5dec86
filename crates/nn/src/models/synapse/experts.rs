//! A sparse expert: `W_down (silu(W_gate u) ⊙ W_up u)` (Shazeer 2020) on the rows that were dispatched to it.

use synapse_checkpoint::{ModelConfig, SynapseConfig};

use super::{
    blocks::{gated, gated_backward},
    layout::Layout,
    linear::{Linear, Weights},
};

/// Where an expert's weights lie.
#[derive(Debug, Clone)]
pub(crate) struct Expert {
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Saved for the backward pass.
#[derive(Debug, Default)]
pub(crate) struct SavedActivations {
    gate: Vec<f32>,   // [t, size]
    up: Vec<f32>,     // [t, size]
    hidden: Vec<f32>, // [t, size]
}

impl Expert {
    pub(crate) fn new(
        layout: &Layout,
        prefix: &str,
        index: usize,
        config: &ModelConfig,
        modules: &SynapseConfig,
    ) -> Self {
        let linear = |name: &str, input: usize, output: usize| {
            Linear::new(
                layout,
                &format!("{prefix}.experts.{index}.{name}"),
                false,
                input,
                output,
            )
        };
        let (hidden, size) = (config.hidden_size, modules.expert_size);
        Self {
            gate: linear("gate_proj", hidden, size),
            up: linear("up_proj", hidden, size),
            down: linear("down_proj", size, hidden),
        }
    }

    /// `u [t, hidden]` → `[t, hidden]`.
    pub(crate) fn forward(&self, weights: Weights<'_>, u: &[f32]) -> (Vec<f32>, SavedActivations) {
        let gate = self.gate.forward(weights, u);
        let up = self.up.forward(weights, u);
        let hidden = gated(&up, &gate);
        let y = self.down.forward(weights, &hidden);
        (y, SavedActivations { gate, up, hidden })
    }

    /// Adds to `du` and the weights' gradients.
    pub(crate) fn backward(
        &self,
        weights: Weights<'_>,
        u: &[f32],
        saved: &mut SavedActivations,
        dy: &[f32],
        (du, gradients): (&mut [f32], &mut [f32]),
    ) {
        let mut dhidden = vec![0.0; saved.hidden.len()];
        self.down.backward(weights, &saved.hidden, dy, &mut dhidden, gradients);
        // in place: both factors become their gradients
        gated_backward(&mut saved.up, &mut saved.gate, &dhidden);
        self.gate.backward(weights, u, &saved.gate, du, gradients);
        self.up.backward(weights, u, &saved.up, du, gradients);
    }
}
