//! The sLSTM block: a causal convolution that feeds the input and forget gates, the cell with its head-wise recurrence,
//! a norm per head, and a gated feed-forward part of four thirds of the width (SwiGLU where the paper has GeGLU).

use std::ops::Range;

use synapse_checkpoint::{ModelConfig, SynapseConfig};
use synapse_kernels::{elementwise, recurrent::slstm};

use super::mlstm::{halves, join};
use crate::models::synapse::{
    blocks::{CausalConv, HeadNorm, columns, gated, gated_backward},
    layout::Layout,
    linear::{Linear, Weights},
    recurrent_state::RecurrentState,
    sequence_module::{ModuleGradients, ModuleInput, SequenceModule, of_full_sequence},
};

/// Where the block's weights lie.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    conv: CausalConv,
    /// z and o, from the stream itself.
    cell: Linear,
    /// i and f, from the convolution.
    gates: Linear,
    recurrent: Range<usize>,
    norm: HeadNorm,
    ffn_gate: Linear,
    ffn_up: Linear,
    down: Linear,
    width: usize,
    heads: usize,
}

/// Saved for the backward pass.
#[derive(Debug)]
pub(crate) struct SavedActivations {
    mixed: Vec<f32>,  // [t, hidden] after the convolution
    pre: Vec<f32>,    // [t, 4, width] z, i, f, o
    cell: Vec<f32>,   // [t, width]
    normed: Vec<f32>, // [t, width]
    gate: Vec<f32>,   // [t, feed-forward]
    up: Vec<f32>,     // [t, feed-forward]
    inner: Vec<f32>,  // [t, feed-forward]
    cell_saved: Option<slstm::SlstmActivations>,
}

impl Block {
    pub(super) fn new(layout: &Layout, prefix: &str, config: &ModelConfig, modules: &SynapseConfig) -> Self {
        let at = |name: &str| layout.range(&format!("{prefix}.language.{name}"));
        let (hidden, width) = (config.hidden_size, modules.language_size);
        let feed_forward = modules.slstm_feed_forward();
        let linear = |name: &str, bias: bool, input: usize, output: usize| {
            Linear::new(layout, &format!("{prefix}.language.{name}"), bias, input, output)
        };
        Self {
            conv: CausalConv::new(layout, &format!("{prefix}.language.conv"), modules.conv_kernel),
            cell: linear("cell_proj", true, hidden, 2 * width),
            gates: linear("gate_proj", true, hidden, 2 * width),
            recurrent: at("recurrent"),
            norm: HeadNorm::new(
                layout,
                &format!("{prefix}.language.norm"),
                width / modules.language_heads,
            ),
            ffn_gate: linear("ffn.gate_proj", false, width, feed_forward),
            ffn_up: linear("ffn.up_proj", false, width, feed_forward),
            down: linear("down_proj", false, feed_forward, hidden),
            width,
            heads: modules.language_heads,
        }
    }

    fn shape(&self) -> slstm::SlstmShape {
        slstm::SlstmShape {
            heads: self.heads,
            dim: self.width / self.heads,
        }
    }
}

impl SequenceModule for Block {
    type Saved = SavedActivations;

    fn state_len(&self) -> usize {
        self.conv.state_len() + 4 * self.width
    }

    fn forward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        mut state: RecurrentState<'_, '_>,
    ) -> (Vec<f32>, Self::Saved) {
        let ModuleInput { u, lengths } = input;
        let width = self.width;
        let (mut conv_states, mut cell_states) = state.split(self.conv.state_len());
        let mixed = self.conv.forward(weights, u, lengths, &mut conv_states);
        let (z, o) = halves(&self.cell.forward(weights, u), width);
        let (i, f) = halves(&self.gates.forward(weights.exact(), &mixed), width);
        let pre = join(&[&z, &i, &f, &o], width);
        let operands = slstm::SlstmInputs {
            pre: &pre,
            recurrent: weights.of(&self.recurrent),
        };
        let mut cell = vec![0.0; z.len()];
        let cell_saved = match cell_states.as_deref_mut() {
            Some(states) => {
                slstm::forward(self.shape(), operands, lengths, Some(states), &mut cell);
                None
            }
            None => Some(slstm::forward_saved(self.shape(), operands, lengths, &mut cell)),
        };
        let normed = self.norm.forward(weights, &cell);
        let gate = self.ffn_gate.forward(weights, &normed);
        let up = self.ffn_up.forward(weights, &normed);
        let inner = gated(&up, &gate);
        let y = self.down.forward(weights, &inner);
        let saved = SavedActivations {
            mixed,
            pre,
            cell,
            normed,
            gate,
            up,
            inner,
            cell_saved,
        };
        (y, saved)
    }

    fn backward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        saved: &mut Self::Saved,
        dy: &[f32],
        gradients: ModuleGradients<'_>,
    ) {
        let ModuleInput { u, lengths } = input;
        let ModuleGradients {
            du,
            parameters: gradients,
        } = gradients;
        let width = self.width;
        let cell_saved = of_full_sequence(saved.cell_saved.as_ref());
        let mut dinner = vec![0.0; saved.inner.len()];
        self.down.backward(weights, &saved.inner, dy, &mut dinner, gradients);
        // in place: both factors become their gradients
        gated_backward(&mut saved.up, &mut saved.gate, &dinner);
        let mut dnormed = vec![0.0; saved.normed.len()];
        self.ffn_gate
            .backward(weights, &saved.normed, &saved.gate, &mut dnormed, gradients);
        self.ffn_up
            .backward(weights, &saved.normed, &saved.up, &mut dnormed, gradients);
        let dcell = self.norm.backward(weights, &saved.cell, &dnormed, gradients);
        let mut dpre = vec![0.0; saved.pre.len()];
        let operands = slstm::SlstmInputs {
            pre: &saved.pre,
            recurrent: weights.of(&self.recurrent),
        };
        let targets = slstm::SlstmGradients {
            pre: &mut dpre,
            recurrent: &mut gradients[self.recurrent.clone()],
        };
        slstm::backward(self.shape(), operands, lengths, cell_saved, &dcell, targets);

        // z, i, f, o → (z, o) and (i, f)
        let part = |index: usize| columns(&dpre, 4 * width, index * width..(index + 1) * width);
        let dcells = join(&[&part(0), &part(3)], width);
        let dgates = join(&[&part(1), &part(2)], width);
        self.cell.backward(weights, u, &dcells, du, gradients);
        let mut dmixed = vec![0.0; saved.mixed.len()];
        self.gates
            .backward(weights.exact(), &saved.mixed, &dgates, &mut dmixed, gradients);
        let through = self.conv.backward(weights, (u, lengths), &dmixed, gradients);
        elementwise::add(du, &through);
    }
}
