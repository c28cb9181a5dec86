//! One decoder layer, forward and backward.

use synapse_kernels::{
    Accumulate,
    attention::{self, Gradients, Saved, Span},
    elementwise, norm,
};

use super::{MicroBatch, TrainableModel};
use crate::{
    decoder::slot,
    linear::{LoraBackward, Rows},
    pool::Pool,
};

/// What the backward pass of a layer reads. Shapes: t tokens, h hidden, q and k widths of queries and keys,
/// i intermediate, r rank.
pub(super) struct State {
    inverse1: Vec<f32>,    // [t]
    normed1: Vec<f32>,     // [t, h]
    q: Vec<f32>,           // [t, q], rotated
    k: Vec<f32>,           // [t, k], rotated
    v: Vec<f32>,           // [t, k]
    attended: Vec<f32>,    // [t, q]
    log_sums: Vec<f32>,    // [heads, t] per document
    middle: Vec<f32>,      // [t, h], after the attention's residual
    inverse2: Vec<f32>,    // [t]
    normed2: Vec<f32>,     // [t, h]
    gate: Vec<f32>,        // [t, i]
    up: Vec<f32>,          // [t, i]
    activated: Vec<f32>,   // [t, i]
    hidden: [Vec<f32>; 7], // [t, r] per adapted linear
}

impl State {
    pub(super) fn release(self, pool: &mut Pool) {
        for buffer in [
            self.inverse1,
            self.normed1,
            self.q,
            self.k,
            self.v,
            self.attended,
            self.log_sums,
            self.middle,
            self.inverse2,
            self.normed2,
            self.gate,
            self.up,
            self.activated,
        ] {
            pool.give(buffer);
        }
        self.hidden.into_iter().for_each(|buffer| pool.give(buffer));
    }
}

/// A model, its parameters and one micro-batch.
pub(super) struct Work<'a> {
    model: &'a TrainableModel,
    parameters: &'a [f32],
    lengths: &'a [usize],
    positions: Vec<u32>,
    rows: Rows,
    key: Option<[u64; 3]>,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        model: &'a TrainableModel,
        parameters: &'a [f32],
        batch: &'a MicroBatch,
        key: Option<[u64; 3]>,
    ) -> Self {
        Self {
            model,
            parameters,
            lengths: &batch.lengths,
            positions: batch.lengths.iter().flat_map(|&length| 0..length as u32).collect(),
            rows: Rows {
                count: batch.tokens.len(),
                precision: model.decoder.precision,
            },
            key,
        }
    }

    /// Base product plus LoRA branch of one linear; returns the branch's inner activation.
    fn linear(&self, layer: usize, slot: usize, x: &[f32], y: &mut [f32], pool: &mut Pool) -> Vec<f32> {
        let linear = &self.model.decoder.layers[layer].linears[slot];
        linear.forward(self.rows, self.parameters, x, y);
        match self.model.branch(self.parameters, layer, slot, self.key) {
            None => Vec::new(),
            Some(lora) => {
                let mut hidden = pool.take(self.rows.count * lora.rank);
                linear.add_lora(self.rows, lora, x, y, &mut hidden, pool);
                hidden
            }
        }
    }

    fn spans<'s>(&self, q: &'s [f32], k: &'s [f32], v: &'s [f32]) -> Vec<Span<'s>> {
        let heads = self.model.heads();
        let (query, key) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let mut start = 0;
        self.lengths
            .iter()
            .map(|&count| {
                let end = start + count;
                let span = Span {
                    q: &q[start * query..end * query],
                    k: &k[start * key..end * key],
                    v: &v[start * key..end * key],
                    count,
                    past: 0,
                };
                start = end;
                span
            })
            .collect()
    }

    /// `y [t, h]` = the layer's output for `x [t, h]`.
    pub(super) fn forward(&self, index: usize, x: &[f32], y: &mut [f32], pool: &mut Pool) -> State {
        let (decoder, t) = (&self.model.decoder, self.rows.count);
        let (layer, config, heads) = (&decoder.layers[index], &decoder.config, self.model.heads());
        let epsilon = config.rms_norm_eps as f32;
        let (query, key) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let (mut inverse1, mut normed1) = (pool.take(t), pool.take(x.len()));
        norm::forward(
            x,
            layer.input_norm.vector(self.parameters),
            epsilon,
            &mut normed1,
            &mut inverse1,
        );
        let (mut q, mut k, mut v) = (pool.take(t * query), pool.take(t * key), pool.take(t * key));
        let hidden_q = self.linear(index, slot::QUERY, &normed1, &mut q, pool);
        let hidden_k = self.linear(index, slot::KEY, &normed1, &mut k, pool);
        let hidden_v = self.linear(index, slot::VALUE, &normed1, &mut v, pool);
        decoder.rope.rotate(&mut q, query, &self.positions);
        decoder.rope.rotate(&mut k, key, &self.positions);
        let (mut attended, mut log_sums) = (pool.take(t * query), pool.take(t * heads.queries));
        attention::forward(heads, &self.spans(&q, &k, &v), &mut attended, &mut log_sums);
        let mut middle = pool.take(x.len());
        let hidden_o = self.linear(index, slot::OUTPUT, &attended, &mut middle, pool);
        elementwise::add(&mut middle, x);
        let (mut inverse2, mut normed2) = (pool.take(t), pool.take(x.len()));
        norm::forward(
            &middle,
            layer.post_norm.vector(self.parameters),
            epsilon,
            &mut normed2,
            &mut inverse2,
        );
        let wide = t * config.intermediate_size;
        let (mut gate, mut up, mut activated) = (pool.take(wide), pool.take(wide), pool.take(wide));
        let hidden_gate = self.linear(index, slot::GATE, &normed2, &mut gate, pool);
        let hidden_up = self.linear(index, slot::UP, &normed2, &mut up, pool);
        elementwise::swiglu(&gate, &up, &mut activated);
        let hidden_down = self.linear(index, slot::DOWN, &activated, y, pool);
        elementwise::add(y, &middle);
        let hidden = [
            hidden_q,
            hidden_k,
            hidden_v,
            hidden_o,
            hidden_gate,
            hidden_up,
            hidden_down,
        ];
        State {
            inverse1,
            normed1,
            q,
            k,
            v,
            attended,
            log_sums,
            middle,
            inverse2,
            normed2,
            gate,
            up,
            activated,
            hidden,
        }
    }

    /// Weight and branch gradients of one linear and, into `dx`, its input gradient.
    fn linear_backward(
        &self,
        (layer, slot): (usize, usize),
        operands: Operands<'_>,
        gradients: &mut [f32],
        pool: &mut Pool,
    ) {
        let Operands {
            x,
            hidden,
            dy,
            dx,
            accumulate,
        } = operands;
        let linear = &self.model.decoder.layers[layer].linears[slot];
        linear.weight_gradient(self.rows, x, dy, gradients);
        linear.input_gradient(self.rows, self.parameters, dy, dx, accumulate);
        if let (Some(lora), Some((_, slots))) = (
            self.model.branch(self.parameters, layer, slot, self.key),
            &self.model.lora,
        ) && let Some(slot) = &slots[layer][slot]
        {
            let pass = LoraBackward {
                x,
                hidden,
                dy,
                dx: Some(dx),
                ranges: &slot.ranges,
                gradients,
            };
            linear.lora_backward(self.rows, lora, pass, pool);
        }
    }

    /// The gradient of the layer's input from that of its output; `dy` is taken over and becomes the result.
    pub(super) fn backward(
        &self,
        index: usize,
        x: &[f32],
        mut state: State,
        dy: Vec<f32>,
        gradients: &mut [f32],
        pool: &mut Pool,
    ) -> Vec<f32> {
        let mut dx = self.mlp_backward(index, &mut state, dy, gradients, pool);
        self.attention_backward(index, x, &state, &mut dx, gradients, pool);
        state.release(pool);
        dx
    }

    /// Through the MLP and the second norm: from d(output) to d(middle).
    fn mlp_backward(
        &self,
        index: usize,
        state: &mut State,
        mut dy: Vec<f32>,
        gradients: &mut [f32],
        pool: &mut Pool,
    ) -> Vec<f32> {
        let layer = &self.model.decoder.layers[index];
        let mut d_activated = pool.take(state.activated.len());
        let down = Operands {
            x: &state.activated,
            hidden: &state.hidden[slot::DOWN],
            dy: &dy,
            dx: &mut d_activated,
            accumulate: Accumulate::Overwrite,
        };
        self.linear_backward((index, slot::DOWN), down, gradients, pool);
        elementwise::swiglu_backward(&mut state.gate, &mut state.up, &d_activated);
        pool.give(d_activated);
        let mut d_normed = pool.take(dy.len());
        let gate = Operands {
            x: &state.normed2,
            hidden: &state.hidden[slot::GATE],
            dy: &state.gate,
            dx: &mut d_normed,
            accumulate: Accumulate::Overwrite,
        };
        self.linear_backward((index, slot::GATE), gate, gradients, pool);
        let up = Operands {
            x: &state.normed2,
            hidden: &state.hidden[slot::UP],
            dy: &state.up,
            dx: &mut d_normed,
            accumulate: Accumulate::Add,
        };
        self.linear_backward((index, slot::UP), up, gradients, pool);
        if let Some(range) = layer.post_norm.range() {
            norm::backward_weight(&state.middle, &state.inverse2, &d_normed, &mut gradients[range]);
        }
        norm::backward(
            &state.middle,
            layer.post_norm.vector(self.parameters),
            &state.inverse2,
            &d_normed,
            &mut dy,
        );
        pool.give(d_normed);
        dy
    }

    /// Through the attention and the first norm: adds to `dx`, which holds d(middle) on entry.
    fn attention_backward(
        &self,
        index: usize,
        x: &[f32],
        state: &State,
        dx: &mut [f32],
        gradients: &mut [f32],
        pool: &mut Pool,
    ) {
        let decoder = &self.model.decoder;
        let (layer, heads) = (&decoder.layers[index], self.model.heads());
        let mut d_attended = pool.take(state.attended.len());
        let output = Operands {
            x: &state.attended,
            hidden: &state.hidden[slot::OUTPUT],
            dy: dx,
            dx: &mut d_attended,
            accumulate: Accumulate::Overwrite,
        };
        self.linear_backward((index, slot::OUTPUT), output, gradients, pool);
        let (mut dq, mut dk, mut dv) = (
            pool.take(state.q.len()),
            pool.take(state.k.len()),
            pool.take(state.v.len()),
        );
        let saved = Saved {
            out: &state.attended,
            log_sums: &state.log_sums,
            d_out: &d_attended,
        };
        let targets = Gradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        attention::backward(heads, &self.spans(&state.q, &state.k, &state.v), saved, targets);
        decoder
            .rope
            .rotate_back(&mut dq, heads.queries * heads.dim, &self.positions);
        decoder
            .rope
            .rotate_back(&mut dk, heads.keys * heads.dim, &self.positions);
        let mut d_normed = pool.take(dx.len());
        for (slot, dy, accumulate) in [
            (slot::QUERY, &dq, Accumulate::Overwrite),
            (slot::KEY, &dk, Accumulate::Add),
            (slot::VALUE, &dv, Accumulate::Add),
        ] {
            let operands = Operands {
                x: &state.normed1,
                hidden: &state.hidden[slot],
                dy,
                dx: &mut d_normed,
                accumulate,
            };
            self.linear_backward((index, slot), operands, gradients, pool);
        }
        if let Some(range) = layer.input_norm.range() {
            norm::backward_weight(x, &state.inverse1, &d_normed, &mut gradients[range]);
        }
        norm::backward(
            x,
            layer.input_norm.vector(self.parameters),
            &state.inverse1,
            &d_normed,
            dx,
        );
        for buffer in [d_attended, dq, dk, dv, d_normed] {
            pool.give(buffer);
        }
    }
}

/// Operands of one linear's backward pass.
struct Operands<'a> {
    x: &'a [f32],
    hidden: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    accumulate: Accumulate,
}
