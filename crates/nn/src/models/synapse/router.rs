//! The router: one Mamba block over the hidden states that gives a logit per token and module.
//!
//! `[x; z] = W_in u; x = silu(conv(x)); [δ; B; C] = W_x x; Δ = softplus(W_dt δ + b_dt); y = scan(x, Δ, B, C);
//! r = W_out (y ⊙ silu(z)); logits = W_r r + b_r` (Gu and Dao 2023, algorithm 2; the head is ours). What this is not:
//! the choice of modules, which is in `routing`. On disk its tensors are called `thalamus.*`.

use std::ops::Range;

use synapse_checkpoint::{ModelConfig, SynapseConfig};
use synapse_kernels::recurrent::{scan, softplus};

use super::{
    blocks::{CausalConv, gated, gated_backward},
    layout::Layout,
    linear::{Linear, Weights},
    recurrent_state::{RecurrentState, sigmoid},
};

/// Where the router's weights lie.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    input: Linear,
    gate: Linear,
    conv: CausalConv,
    steps: Linear,
    writes: Linear,
    reads: Linear,
    step_sizes: Linear,
    rates: Range<usize>,
    skip: Range<usize>,
    output: Linear,
    head: Linear,
    inner: usize,
    state: usize,
}

/// Saved for the backward pass.
#[derive(Debug, Default)]
pub(crate) struct SavedActivations {
    x: Vec<f32>,                  // [t, inner] before the convolution
    z: Vec<f32>,                  // [t, inner]
    mixed: Vec<f32>,              // [t, inner] after the convolution
    low: Vec<f32>,                // [t, rank] δ
    raw: Vec<f32>,                // [t, inner] before softplus
    delta: Vec<f32>,              // [t, inner]
    b: Vec<f32>,                  // [t, state]
    c: Vec<f32>,                  // [t, state]
    y: Vec<f32>,                  // [t, inner] of the scan
    gated: Vec<f32>,              // [t, inner]
    pub(crate) context: Vec<f32>, // [t, hidden]
}

impl Router {
    pub(crate) fn new(layout: &Layout, prefix: &str, config: &ModelConfig, modules: &SynapseConfig) -> Self {
        let at = |name: &str| layout.range(&format!("{prefix}.thalamus.{name}"));
        let (hidden, inner, state) = (config.hidden_size, modules.router_size, modules.router_state);
        let rank = modules.step_rank(hidden);
        let linear = |name: &str, bias: bool, input: usize, output: usize| {
            Linear::new(layout, &format!("{prefix}.thalamus.{name}"), bias, input, output)
        };
        let both = linear("in_proj", false, hidden, 2 * inner);
        let selective = linear("x_proj", false, inner, rank + 2 * state);
        Self {
            input: both.rows(0, inner),
            gate: both.rows(inner, inner),
            conv: CausalConv::new(layout, &format!("{prefix}.thalamus.conv"), modules.conv_kernel),
            steps: selective.rows(0, rank),
            writes: selective.rows(rank, state),
            reads: selective.rows(rank + state, state),
            step_sizes: linear("dt_proj", true, rank, inner),
            rates: at("A_log"),
            skip: at("D"),
            output: linear("out_proj", false, inner, hidden),
            head: linear("gate", true, hidden, modules.choices()),
            inner,
            state,
        }
    }

    /// Values of a document's state: the convolution's last inputs, and the scan's.
    pub(crate) fn state_len(&self) -> usize {
        self.conv.state_len() + self.inner * self.state
    }

    fn scan<'a>(&self, weights: Weights<'a>) -> scan::ScanParameters<'a> {
        scan::ScanParameters {
            a_log: weights.of(&self.rates),
            d: weights.of(&self.skip),
            state: self.state,
        }
    }

    /// `u [t, hidden]` → logits `[t, choices]`.
    pub(crate) fn forward(
        &self,
        weights: Weights<'_>,
        u: &[f32],
        lengths: &[usize],
        mut recurrent_state: RecurrentState<'_, '_>,
    ) -> (Vec<f32>, SavedActivations) {
        let (mut conv_states, mut scan_states) = recurrent_state.split(self.conv.state_len());
        let x = self.input.forward(weights, u);
        let z = self.gate.forward(weights, u);
        let mixed = self.conv.forward(weights, &x, lengths, &mut conv_states);
        let low = self.steps.forward(weights, &mixed);
        let (b, c) = (
            self.writes.forward(weights, &mixed),
            self.reads.forward(weights, &mixed),
        );
        let raw = self.step_sizes.forward(weights.exact(), &low);
        let delta: Vec<f32> = raw.iter().map(|&raw| softplus(raw)).collect();
        let mut y = vec![0.0; x.len()];
        let inputs = scan::ScanInputs {
            x: &mixed,
            delta: &delta,
            b: &b,
            c: &c,
        };
        scan::forward(self.scan(weights), inputs, lengths, scan_states.as_deref_mut(), &mut y);
        let gated = gated(&y, &z);
        let context = self.output.forward(weights, &gated);
        let logits = self.head.forward(weights.exact(), &context);
        let saved = SavedActivations {
            x,
            z,
            mixed,
            low,
            raw,
            delta,
            b,
            c,
            y,
            gated,
            context,
        };
        (logits, saved)
    }

    /// Adds to `du` and the weights' gradients. `dcontext [t, hidden]` is the context's gradient from its other readers.
    pub(crate) fn backward(
        &self,
        weights: Weights<'_>,
        (u, lengths): (&[f32], &[usize]),
        saved: &mut SavedActivations,
        (dlogits, mut dcontext): (&[f32], Vec<f32>),
        (du, gradients): (&mut [f32], &mut [f32]),
    ) {
        self.head
            .backward(weights.exact(), &saved.context, dlogits, &mut dcontext, gradients);
        let mut dgated = vec![0.0; saved.gated.len()];
        self.output
            .backward(weights, &saved.gated, &dcontext, &mut dgated, gradients);
        // in place: the scan's output and the gate become their gradients
        gated_backward(&mut saved.y, &mut saved.z, &dgated);
        let (dy, dz) = (&saved.y, &saved.z);

        let mut dmixed = vec![0.0; saved.mixed.len()];
        let mut ddelta = vec![0.0; saved.delta.len()];
        let (mut db, mut dc) = (vec![0.0; saved.b.len()], vec![0.0; saved.c.len()]);
        let inputs = scan::ScanInputs {
            x: &saved.mixed,
            delta: &saved.delta,
            b: &saved.b,
            c: &saved.c,
        };
        let (a_log, d) = gradients[self.rates.start..self.skip.end].split_at_mut(self.rates.len());
        let targets = scan::ScanGradients {
            x: &mut dmixed,
            delta: &mut ddelta,
            b: &mut db,
            c: &mut dc,
            a_log,
            d,
        };
        scan::backward(self.scan(weights), inputs, lengths, dy, targets);
        for (d, &raw) in ddelta.iter_mut().zip(&saved.raw) {
            *d *= sigmoid(raw);
        }
        let mut dlow = vec![0.0; saved.low.len()];
        self.step_sizes
            .backward(weights.exact(), &saved.low, &ddelta, &mut dlow, gradients);
        for (linear, d) in [(&self.steps, &dlow), (&self.writes, &db), (&self.reads, &dc)] {
            linear.backward(weights, &saved.mixed, d, &mut dmixed, gradients);
        }

        let dx = self.conv.backward(weights, (&saved.x, lengths), &dmixed, gradients);
        self.input.backward(weights, u, &dx, du, gradients);
        self.gate.backward(weights, u, dz, du, gradients);
    }
}
