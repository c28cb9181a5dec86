//! The mLSTM block: up-projection into two streams, a causal convolution that feeds queries and keys, the cell, a norm
//! per head, a learnable skip around the cell, and the second stream as a gate before the down-projection.

use std::ops::Range;

use synapse_checkpoint::{ModelConfig, SynapseConfig};
use synapse_kernels::recurrent::mlstm;

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
    main: Linear,
    side: Linear,
    conv: CausalConv,
    query: Linear,
    key: Linear,
    value: Linear,
    gates: Linear,
    norm: HeadNorm,
    skip: Range<usize>,
    down: Linear,
    width: usize,
    heads: usize,
}

/// Saved for the backward pass.
#[derive(Debug)]
pub(crate) struct SavedActivations {
    main: Vec<f32>,    // [t, width]
    side: Vec<f32>,    // [t, width]
    mixed: Vec<f32>,   // [t, width] after the convolution
    query: Vec<f32>,   // [t, width]
    key: Vec<f32>,     // [t, width]
    value: Vec<f32>,   // [t, width]
    joined: Vec<f32>,  // [t, 3 · width]
    inputs: Vec<f32>,  // [t, heads]
    forgets: Vec<f32>, // [t, heads]
    cell: Vec<f32>,    // [t, width]
    summed: Vec<f32>,  // [t, width] norm and skip
    gated: Vec<f32>,   // [t, width]
    boundaries: Option<mlstm::MlstmChunkStates>,
}

impl Block {
    pub(super) fn new(layout: &Layout, prefix: &str, config: &ModelConfig, modules: &SynapseConfig) -> Self {
        let at = |name: &str| layout.range(&format!("{prefix}.language.{name}"));
        let (hidden, width, heads) = (config.hidden_size, modules.language_size, modules.language_heads);
        let linear = |name: &str, bias: bool, input: usize, output: usize| {
            Linear::new(layout, &format!("{prefix}.language.{name}"), bias, input, output)
        };
        let up = linear("up_proj", false, hidden, 2 * width);
        Self {
            main: up.rows(0, width),
            side: up.rows(width, width),
            conv: CausalConv::new(layout, &format!("{prefix}.language.conv"), modules.conv_kernel),
            query: linear("q_proj", false, width, width),
            key: linear("k_proj", false, width, width),
            value: linear("v_proj", false, width, width),
            gates: linear("gates", true, 3 * width, 2 * heads),
            norm: HeadNorm::new(layout, &format!("{prefix}.language.norm"), width / heads),
            skip: at("skip"),
            down: linear("down_proj", false, width, hidden),
            width,
            heads,
        }
    }

    fn shape(&self) -> mlstm::MlstmShape {
        let dim = self.width / self.heads;
        mlstm::MlstmShape {
            heads: self.heads,
            key: dim,
            value: dim,
        }
    }
}

impl SequenceModule for Block {
    type Saved = SavedActivations;

    fn state_len(&self) -> usize {
        let dim = self.width / self.heads;
        self.conv.state_len() + self.heads * (dim * dim + dim + 1)
    }

    fn forward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        mut state: RecurrentState<'_, '_>,
    ) -> (Vec<f32>, Self::Saved) {
        let ModuleInput { u, lengths } = input;
        let (width, heads) = (self.width, self.heads);
        let (mut conv_states, mut cell_states) = state.split(self.conv.state_len());
        let main = self.main.forward(weights, u);
        let side = self.side.forward(weights, u);
        let mixed = self.conv.forward(weights, &main, lengths, &mut conv_states);
        let query = self.query.forward(weights, &mixed);
        let key = self.key.forward(weights, &mixed);
        let value = self.value.forward(weights, &main);
        let joined = join(&[&query, &key, &value], width);
        let gates = self.gates.forward(weights.exact(), &joined);
        let (inputs, forgets) = halves(&gates, heads);
        let mut cell = vec![0.0; main.len()];
        let operands = mlstm::MlstmInputs {
            q: &query,
            k: &key,
            v: &value,
            input_gate: &inputs,
            forget_gate: &forgets,
        };
        let boundaries = match cell_states.as_deref_mut() {
            Some(states) => {
                mlstm::recurrent(self.shape(), operands, lengths, states, &mut cell);
                None
            }
            None => Some(mlstm::chunkwise(self.shape(), operands, lengths, &mut cell)),
        };
        let mut summed = self.norm.forward(weights, &cell);
        let skip = weights.of(&self.skip);
        for (sums, mixed) in summed.chunks_exact_mut(width).zip(mixed.chunks_exact(width)) {
            for ((sum, mixed), skip) in sums.iter_mut().zip(mixed).zip(skip) {
                *sum += skip * mixed;
            }
        }
        let gated = gated(&summed, &side);
        let y = self.down.forward(weights, &gated);
        let saved = SavedActivations {
            main,
            side,
            mixed,
            query,
            key,
            value,
            joined,
            inputs,
            forgets,
            cell,
            summed,
            gated,
            boundaries,
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
        let (width, heads) = (self.width, self.heads);
        let boundaries = of_full_sequence(saved.boundaries.as_ref());
        let mut dgated = vec![0.0; saved.gated.len()];
        self.down.backward(weights, &saved.gated, dy, &mut dgated, gradients);
        // in place: the gated values and the gate become their gradients
        gated_backward(&mut saved.summed, &mut saved.side, &dgated);
        let (dsummed, dside) = (&saved.summed, &saved.side);

        let skip = weights.of(&self.skip);
        let mut dmixed = vec![0.0; saved.mixed.len()];
        let dskip = &mut gradients[self.skip.clone()];
        for (row, d) in dmixed.chunks_exact_mut(width).enumerate() {
            let start = row * width;
            for i in 0..width {
                d[i] = dsummed[start + i] * skip[i];
                dskip[i] += dsummed[start + i] * saved.mixed[start + i];
            }
        }
        let dcell = self.norm.backward(weights, &saved.cell, dsummed, gradients);

        let zeros = |like: &[f32]| vec![0.0; like.len()];
        let (mut dquery, mut dkey, mut dvalue) = (zeros(&saved.query), zeros(&saved.key), zeros(&saved.value));
        let (mut dinputs, mut dforgets) = (zeros(&saved.inputs), zeros(&saved.forgets));
        let operands = mlstm::MlstmInputs {
            q: &saved.query,
            k: &saved.key,
            v: &saved.value,
            input_gate: &saved.inputs,
            forget_gate: &saved.forgets,
        };
        let targets = mlstm::MlstmGradients {
            q: &mut dquery,
            k: &mut dkey,
            v: &mut dvalue,
            input_gate: &mut dinputs,
            forget_gate: &mut dforgets,
        };
        mlstm::backward(self.shape(), operands, lengths, boundaries, &dcell, targets);

        let dgates = join(&[&dinputs, &dforgets], heads);
        let mut djoined = zeros(&saved.joined);
        self.gates
            .backward(weights.exact(), &saved.joined, &dgates, &mut djoined, gradients);
        for (row, joined) in djoined.chunks_exact(3 * width).enumerate() {
            for (part, target) in [&mut dquery, &mut dkey, &mut dvalue].into_iter().enumerate() {
                let from = &joined[part * width..(part + 1) * width];
                for (target, value) in target[row * width..(row + 1) * width].iter_mut().zip(from) {
                    *target += value;
                }
            }
        }
        self.query
            .backward(weights, &saved.mixed, &dquery, &mut dmixed, gradients);
        self.key.backward(weights, &saved.mixed, &dkey, &mut dmixed, gradients);
        let mut dmain = self.conv.backward(weights, (&saved.main, lengths), &dmixed, gradients);
        self.value
            .backward(weights, &saved.main, &dvalue, &mut dmain, gradients);
        self.main.backward(weights, u, &dmain, du, gradients);
        self.side.backward(weights, u, dside, du, gradients);
    }
}

/// Rows side by side: `[t, width]` each → `[t, parts · width]`.
pub(super) fn join(parts: &[&[f32]], width: usize) -> Vec<f32> {
    let rows = parts[0].len() / width;
    let mut joined = Vec::with_capacity(rows * parts.len() * width);
    for row in 0..rows {
        for part in parts {
            joined.extend_from_slice(&part[row * width..(row + 1) * width]);
        }
    }
    joined
}

/// `[t, 2 · width]` → twice `[t, width]`.
pub(super) fn halves(both: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    (
        columns(both, 2 * width, 0..width),
        columns(both, 2 * width, width..2 * width),
    )
}
