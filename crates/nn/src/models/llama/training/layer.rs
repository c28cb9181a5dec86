//! One decoder layer, forward and backward.

use synapse_kernels::{
    Accumulate, Matrix, MatrixMut,
    attention::{self, AttentionGradients, SavedAttention, Span},
    elementwise, norm,
};

use crate::{
    MicroBatch,
    adapter_source::AdapterSource,
    linear::{self, LinearBackward, ReductionOrder, Rows, SavedBranch},
    models::llama::decoder::slot,
    pool::{Activation, Buffer, Pool},
    tensor::Tensor,
};

use super::{TrainableDecoder, head_norm::SavedHeadNorm};

/// Linears of a layer.
const SLOTS: usize = 7;

/// The saved activations of a layer. Shapes: t tokens, h hidden, q and k widths of queries and keys,
/// i intermediate, r rank. What only products read is stored in their precision.
pub(super) struct SavedActivations {
    inverse1: Buffer<f32>,                  // [t]
    normed1: Activation,                    // [t, h]
    q: Activation,                          // [t, q], normalized and rotated
    k: Activation,                          // [t, k], normalized and rotated
    head_norms: [Option<SavedHeadNorm>; 2], // of q and k
    v: Activation,                          // [t, k]
    attended: Activation,                   // [t, q]
    log_sums: Buffer<f32>,                  // [heads, t] per document
    middle: Buffer<f32>,                    // [t, h], after the attention's residual
    inverse2: Buffer<f32>,                  // [t]
    normed2: Activation,                    // [t, h]
    gate: Activation,                       // [t, i]
    up: Activation,                         // [t, i]
    activated: Activation,                  // [t, i]
    hidden: [Option<Activation>; SLOTS],    // [t, r] per adapted linear
}

impl SavedActivations {
    pub(super) fn release(self, pool: &mut Pool) {
        for buffer in [self.inverse1, self.log_sums, self.middle, self.inverse2] {
            pool.give(buffer);
        }
        for activation in [
            self.normed1,
            self.q,
            self.k,
            self.v,
            self.attended,
            self.normed2,
            self.gate,
            self.up,
            self.activated,
        ] {
            pool.release(activation);
        }
        self.head_norms
            .into_iter()
            .flatten()
            .for_each(|norm| norm.release(pool));
        self.hidden
            .into_iter()
            .flatten()
            .for_each(|hidden| pool.release(hidden));
    }
}

/// A pass of one micro-batch through the layers.
pub(super) struct LayerPass<'a> {
    model: &'a TrainableDecoder,
    parameters: &'a [f32],
    lengths: &'a [usize],
    positions: Vec<u32>,
    rows: Rows,
    adapter: Option<AdapterSource<'a>>,
}

impl<'a> LayerPass<'a> {
    pub(super) fn new(
        model: &'a TrainableDecoder,
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
                order: ReductionOrder::Fastest,
            },
            adapter: model.adapter(parameters, key),
        }
    }

    /// Base product plus LoRA branch of one linear; returns the branch's hidden activation.
    fn linear(
        &self,
        (layer, slot): (usize, usize),
        x: &Activation,
        (y, accumulate): (&mut [f32], Accumulate),
        pool: &mut Pool,
    ) -> Option<Activation> {
        let linear = &self.model.decoder.layers[layer].linears[slot];
        match self.adapter.and_then(|adapter| adapter.branch(&linear.module)) {
            None => {
                linear.forward(self.rows, self.parameters, x.matrix(), y, accumulate);
                None
            }
            Some(lora) => {
                let weights = (self.parameters, lora);
                Some(linear.forward_adapted(self.rows, weights, x.matrix(), (y, accumulate), pool))
            }
        }
    }

    fn spans<'s>(&self, q: &'s Activation, k: &'s Activation, v: &'s Activation) -> Vec<Span<'s>> {
        let heads = self.model.decoder.heads();
        let (query, key) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let mut start = 0;
        self.lengths
            .iter()
            .map(|&count| {
                let span = Span {
                    q: q.matrix().tail(start * query),
                    k: k.matrix().tail(start * key),
                    v: v.matrix().tail(start * key),
                    count,
                };
                start += count;
                span
            })
            .collect()
    }

    /// `y [t, h]` = the layer's output for `x [t, h]`.
    pub(super) fn forward(&self, index: usize, x: &[f32], y: &mut [f32], pool: &mut Pool) -> SavedActivations {
        let (decoder, t, precision) = (&self.model.decoder, self.rows.count, self.rows.precision);
        let (layer, config, heads) = (&decoder.layers[index], &decoder.config, self.model.decoder.heads());
        let epsilon = config.rms_norm_eps as f32;
        let (query, key) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let mut hidden = [const { None }; SLOTS];
        let (mut inverse1, mut normed1) = (pool.take(t), pool.activation(x.len(), precision));
        let weight = layer.input_norm.vector(self.parameters);
        norm::forward(x, weight, epsilon, normed1.target(), &mut inverse1);
        let mut project = |slot: usize, width: usize, norm: Option<&Tensor>, pool: &mut Pool| {
            let mut y = pool.take(t * width);
            hidden[slot] = self.linear((index, slot), &normed1, (&mut y, Accumulate::Overwrite), pool);
            let saved = norm.map(|weight| {
                let x = std::mem::take(&mut y);
                let (normed, saved) = SavedHeadNorm::forward(x, weight.vector(self.parameters), epsilon, pool);
                y = normed;
                saved
            });
            if slot != slot::VALUE && layer.is_rotated {
                decoder.rope.rotate(&mut y, width, &self.positions);
            }
            (pool.keep(y, precision), saved)
        };
        let norms = layer.head_norms.as_ref();
        let (q, q_norm) = project(slot::QUERY, query, norms.map(|norms| &norms.query), pool);
        let (k, k_norm) = project(slot::KEY, key, norms.map(|norms| &norms.key), pool);
        let (v, _) = project(slot::VALUE, key, None, pool);
        let (mut attended, mut log_sums) = (pool.activation(t * query, precision), pool.take(t * heads.queries));
        attention::forward(heads, &self.spans(&q, &k, &v), attended.target(), &mut log_sums);
        let mut middle = pool.take(x.len());
        MatrixMut::F32(&mut middle).store(x);
        hidden[slot::OUTPUT] = self.linear((index, slot::OUTPUT), &attended, (&mut middle, Accumulate::Add), pool);
        let (mut inverse2, mut normed2) = (pool.take(t), pool.activation(x.len(), precision));
        let weight = layer.post_norm.vector(self.parameters);
        norm::forward(&middle, weight, epsilon, normed2.target(), &mut inverse2);
        let wide = t * config.intermediate_size;
        let (mut gate, mut up) = (pool.take(wide), pool.take(wide));
        hidden[slot::GATE] = self.linear((index, slot::GATE), &normed2, (&mut gate, Accumulate::Overwrite), pool);
        hidden[slot::UP] = self.linear((index, slot::UP), &normed2, (&mut up, Accumulate::Overwrite), pool);
        let mut activated = pool.activation(wide, precision);
        elementwise::swiglu(&gate, &up, activated.target());
        let (gate, up) = (pool.keep(gate, precision), pool.keep(up, precision));
        MatrixMut::F32(&mut *y).store(&middle);
        hidden[slot::DOWN] = self.linear((index, slot::DOWN), &activated, (y, Accumulate::Add), pool);
        SavedActivations {
            inverse1,
            normed1,
            q,
            k,
            head_norms: [q_norm, k_norm],
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

    /// One linear of a backward pass, with the gradient `dy` of its output.
    fn linear_backward<'f>(
        &'f self,
        (layer, slot): (usize, usize),
        hidden: &'f [Option<Activation>; SLOTS],
        dy: Matrix<'f>,
    ) -> LinearBackward<'f> {
        let linear = &self.model.decoder.layers[layer].linears[slot];
        let branch = match (
            self.adapter.and_then(|adapter| adapter.branch(&linear.module)),
            &hidden[slot],
        ) {
            (Some(lora), Some(hidden)) => Some(SavedBranch { lora, hidden }),
            _ => None,
        };
        LinearBackward { linear, branch, dy }
    }

    /// Weight and branch gradients of linears with a common input and, into `dx`, its gradient.
    fn linears_backward(
        &self,
        entries: &[LinearBackward<'_>],
        x: &Activation,
        dx: &mut [f32],
        gradients: &mut [f32],
        pool: &mut Pool,
    ) {
        let target = (dx, Accumulate::Overwrite);
        linear::backward(
            self.rows,
            self.parameters,
            entries,
            x.matrix(),
            target,
            (gradients, pool),
        );
    }

    /// The gradient of the layer's input from that of its output; `dy` is consumed and becomes the result.
    pub(super) fn backward(
        &self,
        index: usize,
        x: &[f32],
        mut saved: SavedActivations,
        dy: Buffer<f32>,
        gradients: &mut [f32],
        pool: &mut Pool,
    ) -> Buffer<f32> {
        let mut dx = self.mlp_backward(index, &mut saved, dy, gradients, pool);
        self.attention_backward(index, x, &saved, &mut dx, gradients, pool);
        saved.release(pool);
        dx
    }

    /// Through the MLP and the second norm: from d(output) to d(middle).
    fn mlp_backward(
        &self,
        index: usize,
        saved: &mut SavedActivations,
        mut dy: Buffer<f32>,
        gradients: &mut [f32],
        pool: &mut Pool,
    ) -> Buffer<f32> {
        let layer = &self.model.decoder.layers[index];
        let wide = self.rows.count * self.model.decoder.config.intermediate_size;
        let mut d_activated = pool.take(wide);
        let rounded = pool.operand(&dy, self.rows.precision);
        let down = [self.linear_backward((index, slot::DOWN), &saved.hidden, rounded.matrix())];
        self.linears_backward(&down, &saved.activated, &mut d_activated, gradients, pool);
        pool.release_operand(rounded);
        elementwise::swiglu_backward(saved.gate.target(), saved.up.target(), &d_activated);
        pool.give(d_activated);
        let mut d_normed = pool.take(dy.len());
        let entries = [
            self.linear_backward((index, slot::GATE), &saved.hidden, saved.gate.matrix()),
            self.linear_backward((index, slot::UP), &saved.hidden, saved.up.matrix()),
        ];
        self.linears_backward(&entries, &saved.normed2, &mut d_normed, gradients, pool);
        if let Some(range) = layer.post_norm.range() {
            norm::backward_weight(&saved.middle, &saved.inverse2, &d_normed, &mut gradients[range]);
        }
        let weight = layer.post_norm.vector(self.parameters);
        norm::backward(&saved.middle, weight, &saved.inverse2, &d_normed, &mut dy);
        pool.give(d_normed);
        dy
    }

    /// Through the attention and the first norm: adds to `dx`, which holds d(middle) on entry.
    fn attention_backward(
        &self,
        index: usize,
        x: &[f32],
        saved: &SavedActivations,
        dx: &mut [f32],
        gradients: &mut [f32],
        pool: &mut Pool,
    ) {
        let (decoder, precision, t) = (&self.model.decoder, self.rows.precision, self.rows.count);
        let (layer, heads) = (&decoder.layers[index], self.model.decoder.heads());
        let (query, key) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let mut d_attended = pool.take(t * query);
        let rounded = pool.operand(dx, precision);
        let output = [self.linear_backward((index, slot::OUTPUT), &saved.hidden, rounded.matrix())];
        self.linears_backward(&output, &saved.attended, &mut d_attended, gradients, pool);
        pool.release_operand(rounded);
        let (mut dq, mut dk, mut dv) = (pool.take(t * query), pool.take(t * key), pool.take(t * key));
        let forward = SavedAttention {
            out: saved.attended.matrix(),
            log_sums: &saved.log_sums,
            d_out: &d_attended,
        };
        let targets = AttentionGradients {
            dq: &mut dq,
            dk: &mut dk,
            dv: &mut dv,
        };
        attention::backward(heads, &self.spans(&saved.q, &saved.k, &saved.v), forward, targets);
        pool.give(d_attended);
        if layer.is_rotated {
            decoder.rope.rotate_back(&mut dq, query, &self.positions);
            decoder.rope.rotate_back(&mut dk, key, &self.positions);
        }
        if let (Some(norms), [Some(of_q), Some(of_k)]) = (&layer.head_norms, &saved.head_norms) {
            dq = of_q.backward((&norms.query, self.parameters), dq, gradients, pool);
            dk = of_k.backward((&norms.key, self.parameters), dk, gradients, pool);
        }
        let [dq, dk, dv] = [dq, dk, dv].map(|gradient| pool.keep(gradient, precision));
        let mut d_normed = pool.take(dx.len());
        let entries = [
            self.linear_backward((index, slot::QUERY), &saved.hidden, dq.matrix()),
            self.linear_backward((index, slot::KEY), &saved.hidden, dk.matrix()),
            self.linear_backward((index, slot::VALUE), &saved.hidden, dv.matrix()),
        ];
        self.linears_backward(&entries, &saved.normed1, &mut d_normed, gradients, pool);
        if let Some(range) = layer.input_norm.range() {
            norm::backward_weight(x, &saved.inverse1, &d_normed, &mut gradients[range]);
        }
        let weight = layer.input_norm.vector(self.parameters);
        norm::backward(x, weight, &saved.inverse1, &d_normed, dx);
        for gradient in [dq, dk, dv] {
            pool.release(gradient);
        }
        pool.give(d_normed);
    }
}
