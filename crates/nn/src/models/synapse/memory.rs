//! The fast-weight memory: a gated delta rule that writes values under keys into a matrix and reads them by queries
//! (Schlag et al. 2021; Yang et al. 2025, Gated DeltaNet), within one forward pass.
//!
//! `q, k = L2(silu(conv(W u))); v = silu(conv(W_v u)); β = σ(w_β u + b); α = exp(−e^a · softplus(w_α u + b))`; the cell;
//! then a norm per head, a gate `silu(W_g u)` and the projection back. Writes are differentiable, and every document has
//! a memory of its own.

use std::ops::Range;

use synapse_checkpoint::{ModelConfig, SynapseConfig};
use synapse_kernels::{
    head_norm,
    recurrent::{delta, softplus},
};

use super::{
    blocks::{CausalConv, HeadNorm, columns, gated, gated_backward},
    layout::Layout,
    linear::{Linear, Weights},
    recurrent_state::{RecurrentState, sigmoid},
    sequence_module::{ModuleGradients, ModuleInput, SequenceModule, of_full_sequence},
};

/// Added under the root of a key's length.
const EPSILON: f32 = 1e-6;

/// Where the memory's weights lie.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    query: Linear,
    key: Linear,
    value: Linear,
    conv: CausalConv,
    strength: Linear,
    decay: Option<(Linear, Range<usize>)>,
    gate: Linear,
    norm: HeadNorm,
    output: Linear,
    shape: delta::DeltaShape,
}

/// Saved for the backward pass and for traces.
#[derive(Debug)]
pub(crate) struct SavedActivations {
    raw: Vec<f32>,             // [t, 2 · keys + values] before the convolution
    query_raw: Vec<f32>,       // [t, keys] before the norm
    key_raw: Vec<f32>,         // [t, keys] before the norm
    query: Vec<f32>,           // [t, keys]
    key: Vec<f32>,             // [t, keys]
    value: Vec<f32>,           // [t, values]
    pub(crate) beta: Vec<f32>, // [t, heads]
    decay_raw: Vec<f32>,       // [t, heads] before softplus
    log_decay: Vec<f32>,       // [t, heads]
    pub(crate) read: Vec<f32>, // [t, values] of the cell
    normed: Vec<f32>,          // [t, values]
    gate: Vec<f32>,            // [t, values]
    gated: Vec<f32>,           // [t, values]
    boundaries: Option<delta::DeltaChunkStates>,
}

impl Memory {
    pub(crate) fn new(layout: &Layout, prefix: &str, config: &ModelConfig, modules: &SynapseConfig) -> Self {
        let at = |name: &str| layout.range(&format!("{prefix}.memory.{name}"));
        let linear = |name: &str, bias: bool, input: usize, output: usize| {
            Linear::new(layout, &format!("{prefix}.memory.{name}"), bias, input, output)
        };
        let (hidden, heads) = (config.hidden_size, modules.memory_heads);
        let (keys, values) = (heads * modules.memory_key_size, heads * modules.memory_value_size);
        Self {
            query: linear("q_proj", false, hidden, keys),
            key: linear("k_proj", false, hidden, keys),
            value: linear("v_proj", false, hidden, values),
            conv: CausalConv::new(layout, &format!("{prefix}.memory.conv"), modules.conv_kernel),
            strength: linear("beta_proj", true, hidden, heads),
            decay: modules
                .memory_decay
                .then(|| (linear("decay_proj", true, hidden, heads), at("A_log"))),
            gate: linear("g_proj", false, hidden, values),
            norm: HeadNorm::new(layout, &format!("{prefix}.memory.norm"), modules.memory_value_size),
            output: linear("o_proj", false, values, hidden),
            shape: delta::DeltaShape {
                heads,
                key: modules.memory_key_size,
                value: modules.memory_value_size,
            },
        }
    }

    fn keys(&self) -> usize {
        self.shape.heads * self.shape.key
    }

    fn values(&self) -> usize {
        self.shape.heads * self.shape.value
    }
}

impl SequenceModule for Memory {
    type Saved = SavedActivations;

    fn state_len(&self) -> usize {
        self.conv.state_len() + self.keys() * self.shape.value
    }

    fn forward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        mut state: RecurrentState<'_, '_>,
    ) -> (Vec<f32>, Self::Saved) {
        let ModuleInput { u, lengths } = input;
        let (keys, values, heads) = (self.keys(), self.values(), self.shape.heads);
        let (mut conv_states, mut cell_states) = state.split(self.conv.state_len());
        let projected = [&self.query, &self.key, &self.value].map(|linear| linear.forward(weights, u));
        let raw = beside(&projected.each_ref().map(Vec::as_slice), &[keys, keys, values]);
        let mixed = self.conv.forward(weights, &raw, lengths, &mut conv_states);
        let [query_raw, key_raw, value] = apart(&mixed, [keys, keys, values]);
        let (mut query, mut key) = (vec![0.0; query_raw.len()], vec![0.0; key_raw.len()]);
        head_norm::l2(&query_raw, self.shape.key, EPSILON, &mut query);
        head_norm::l2(&key_raw, self.shape.key, EPSILON, &mut key);
        let beta: Vec<f32> = self
            .strength
            .forward(weights.exact(), u)
            .into_iter()
            .map(sigmoid)
            .collect();
        let (decay_raw, log_decay) = match &self.decay {
            Some((linear, rates)) => {
                let raw = linear.forward(weights.exact(), u);
                let rates: Vec<f32> = weights.of(rates).iter().map(|a| a.exp()).collect();
                let log = raw
                    .iter()
                    .enumerate()
                    .map(|(i, &raw)| -rates[i % heads] * softplus(raw))
                    .collect();
                (raw, log)
            }
            None => (Vec::new(), vec![0.0; beta.len()]),
        };
        let operands = delta::DeltaInputs {
            q: &query,
            k: &key,
            v: &value,
            beta: &beta,
            log_decay: &log_decay,
        };
        let mut read = vec![0.0; value.len()];
        let boundaries = match cell_states.as_deref_mut() {
            Some(states) => {
                delta::recurrent(self.shape, operands, lengths, states, &mut read);
                None
            }
            None => Some(delta::chunkwise(self.shape, operands, lengths, &mut read)),
        };
        let normed = self.norm.forward(weights, &read);
        let gate = self.gate.forward(weights, u);
        let gated = gated(&normed, &gate);
        let y = self.output.forward(weights, &gated);
        let saved = SavedActivations {
            raw,
            query_raw,
            key_raw,
            query,
            key,
            value,
            beta,
            decay_raw,
            log_decay,
            read,
            normed,
            gate,
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
        let (keys, values, heads) = (self.keys(), self.values(), self.shape.heads);
        let boundaries = of_full_sequence(saved.boundaries.as_ref());
        let zeros = |like: &[f32]| vec![0.0; like.len()];
        let mut dgated = zeros(&saved.gated);
        self.output.backward(weights, &saved.gated, dy, &mut dgated, gradients);
        // in place: the gated values and the gate become their gradients
        gated_backward(&mut saved.normed, &mut saved.gate, &dgated);
        self.gate.backward(weights, u, &saved.gate, du, gradients);
        let dread = self.norm.backward(weights, &saved.read, &saved.normed, gradients);

        let (mut dquery, mut dkey, mut dvalue) = (zeros(&saved.query), zeros(&saved.key), zeros(&saved.value));
        let (mut dbeta, mut ddecay) = (zeros(&saved.beta), zeros(&saved.log_decay));
        let operands = delta::DeltaInputs {
            q: &saved.query,
            k: &saved.key,
            v: &saved.value,
            beta: &saved.beta,
            log_decay: &saved.log_decay,
        };
        let targets = delta::DeltaGradients {
            q: &mut dquery,
            k: &mut dkey,
            v: &mut dvalue,
            beta: &mut dbeta,
            log_decay: &mut ddecay,
        };
        delta::backward(self.shape, operands, lengths, boundaries, &dread, targets);

        for (d, beta) in dbeta.iter_mut().zip(&saved.beta) {
            *d *= beta * (1.0 - beta);
        }
        self.strength.backward(weights.exact(), u, &dbeta, du, gradients);
        if let Some((linear, rates)) = &self.decay {
            // log α = −e^a · softplus(r): dα/da = log α, dα/dr = −e^a · σ(r)
            for (i, d) in ddecay.iter_mut().enumerate() {
                let head = i % heads;
                gradients[rates.start + head] += *d * saved.log_decay[i];
                *d *= -weights.values[rates.start + head].exp() * sigmoid(saved.decay_raw[i]);
            }
            linear.backward(weights.exact(), u, &ddecay, du, gradients);
        }
        let (mut dquery_raw, mut dkey_raw) = (zeros(&saved.query), zeros(&saved.key));
        head_norm::l2_backward(&saved.query_raw, self.shape.key, EPSILON, &dquery, &mut dquery_raw);
        head_norm::l2_backward(&saved.key_raw, self.shape.key, EPSILON, &dkey, &mut dkey_raw);
        let dmixed = beside(&[&dquery_raw, &dkey_raw, &dvalue], &[keys, keys, values]);
        let draw = self.conv.backward(weights, (&saved.raw, lengths), &dmixed, gradients);
        for (linear, d) in [&self.query, &self.key, &self.value]
            .into_iter()
            .zip(apart(&draw, [keys, keys, values]))
        {
            linear.backward(weights, u, &d, du, gradients);
        }
    }
}

/// Rows of three matrices side by side.
fn beside(parts: &[&[f32]; 3], widths: &[usize; 3]) -> Vec<f32> {
    let rows = parts[0].len() / widths[0];
    let mut joined = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for row in 0..rows {
        for (part, &width) in parts.iter().zip(widths) {
            joined.extend_from_slice(&part[row * width..(row + 1) * width]);
        }
    }
    joined
}

/// The inverse of [`beside`].
fn apart(joined: &[f32], widths: [usize; 3]) -> [Vec<f32>; 3] {
    let total: usize = widths.iter().sum();
    let mut offset = 0;
    widths.map(|width| {
        let start = offset;
        offset += width;
        columns(joined, total, start..offset)
    })
}
