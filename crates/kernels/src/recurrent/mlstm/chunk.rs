//! One chunk of the mLSTM cell: the activations that the forward and the backward pass both need.
//!
//! With `b_t` the sum of `log f` from the chunk's start to `t` and `C, n, m` the state before the chunk:
//! `D_ts = b_t − b_s + ĩ_s` for `s ≤ t`, `M_t = max(b_t + m, max_s D_ts)`, `W = exp(D − M)`, `S_ts = W_ts·(q_t·k̂_s)`,
//! `e_t = exp(b_t + m − M_t)`, numerators `Σ_s S_ts v_s + e_t Cᵀq_t`, denominators `Σ_s S_ts + e_t n·q_t`. The last row
//! also makes the state after the chunk: `m' = M_L`, `C' = e_L C + Σ_s W_Ls k̂_s v_sᵀ`, `n' = e_L n + Σ_s W_Ls k̂_s`.

use super::{MlstmInputs, MlstmShape};
use crate::{
    Accumulate, Precision,
    gemm::{Left, Right, Sum, Term, grow},
    math::{dot, exp, sum_by},
    recurrent::log_sigmoid,
};

/// One chunk of one head of a document.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) shape: MlstmShape,
    pub(super) inputs: MlstmInputs<'a>,
    pub(super) head: usize,
    /// Its first row among all documents' rows.
    pub(super) first: usize,
    /// How many it has.
    pub(super) rows: usize,
}

impl<'a> Chunk<'a> {
    /// Where row `t` of the chunk begins in queries and keys.
    pub(super) fn key_place(&self, t: usize) -> usize {
        (self.first + t) * self.shape.key_width() + self.head * self.shape.key
    }

    /// Where row `t` of the chunk begins in values and outputs.
    pub(super) fn value_place(&self, t: usize) -> usize {
        (self.first + t) * self.shape.value_width() + self.head * self.shape.value
    }

    /// Where row `t` of the chunk lies among the gates.
    pub(super) fn gate_place(&self, t: usize) -> usize {
        (self.first + t) * self.shape.heads + self.head
    }

    /// `[rows, dk]`, rows `heads * dk` apart.
    pub(super) fn queries(&self) -> &'a [f32] {
        &self.inputs.q[self.key_place(0)..]
    }

    /// `[rows, dk]`, rows `heads * dk` apart, not scaled.
    pub(super) fn keys(&self) -> &'a [f32] {
        &self.inputs.k[self.key_place(0)..]
    }

    /// `[rows, dv]`, rows `heads * dv` apart.
    pub(super) fn values(&self) -> &'a [f32] {
        &self.inputs.v[self.value_place(0)..]
    }

    #[inline(always)]
    pub(super) fn query(&self, t: usize) -> &'a [f32] {
        &self.inputs.q[self.key_place(t)..][..self.shape.key]
    }

    #[inline(always)]
    pub(super) fn key(&self, s: usize) -> &'a [f32] {
        &self.inputs.k[self.key_place(s)..][..self.shape.key]
    }
}

/// A state's parts: `C [dk, dv]` and `n [dk]`.
#[inline(always)]
pub(super) fn parts(shape: MlstmShape, state: &[f32]) -> (&[f32], &[f32]) {
    let (memory, rest) = state.split_at(shape.key * shape.value);
    (memory, &rest[..shape.key])
}

/// The activations of a chunk, computed before its outputs; vectors may be longer than the chunk needs.
#[derive(Default)]
pub(super) struct ChunkActivations {
    /// `W [rows, rows]`, zero where `s > t`.
    pub(super) weights: Vec<f32>,
    /// `S [rows, rows]`, zero where `s > t`.
    pub(super) scores: Vec<f32>,
    /// `e [rows]`.
    pub(super) carried: Vec<f32>,
    /// `M [rows]`.
    pub(super) maxima: Vec<f32>,
    /// The denominators before their bound, `[rows]`.
    pub(super) denominators: Vec<f32>,
    /// `e_t q_t`, `[rows, dk]`; only with a state before the chunk.
    pub(super) queries: Vec<f32>,
    /// `W_Ls k̂_s`, `[rows, dk]`; only after [`ChunkActivations::compute_keys`].
    pub(super) keys: Vec<f32>,
}

impl ChunkActivations {
    /// All but `keys` of a chunk that begins with the state `before`; without one it is a document's first.
    pub(super) fn compute(&mut self, chunk: &Chunk<'_>, before: Option<&[f32]>) {
        let (rows, width) = (chunk.rows, chunk.shape.key);
        grow(&mut self.weights, rows * rows);
        grow(&mut self.scores, rows * rows);
        grow(&mut self.carried, rows);
        grow(&mut self.maxima, rows);
        grow(&mut self.denominators, rows);
        grow(&mut self.queries, rows * width);
        // m is the last of a state
        let maximum = before.and_then(|state| state.last()).copied().unwrap_or(0.0);
        decay(chunk, maximum, self);
        let term = Term {
            left: Left::rows(chunk.queries(), chunk.shape.key_width()),
            right: Right::transposed(chunk.keys(), chunk.shape.key_width()),
            k: width,
            scale: chunk.shape.scale(),
        };
        multiply((rows, rows), &[term], Accumulate::Overwrite, &mut self.scores);
        weigh(chunk, before, self);
    }

    /// The keys as the state after the chunk takes them.
    pub(super) fn compute_keys(&mut self, chunk: &Chunk<'_>) {
        let (rows, width, scale) = (chunk.rows, chunk.shape.key, chunk.shape.scale());
        grow(&mut self.keys, rows * width);
        let weights = &self.weights[(rows - 1) * rows..rows * rows];
        for (s, (row, weight)) in self.keys.chunks_exact_mut(width).zip(weights).enumerate() {
            let factor = scale * weight;
            for (out, key) in row.iter_mut().zip(chunk.key(s)) {
                *out = factor * key;
            }
        }
    }
}

/// A product of [`Sum`] into `out [m, n]`, on this thread and with nothing rounded.
pub(super) fn multiply((m, n): (usize, usize), terms: &[Term<'_>], accumulate: Accumulate, out: &mut [f32]) {
    Sum {
        m,
        n,
        terms,
        accumulate,
        precision: Precision::F32,
    }
    .compute_panels_serial(&mut out[..m * n], n);
}

crate::isa::multiversion! {
    /// `W`, `e` and `M` from the gates and `m`.
    fn decay(chunk: &Chunk<'_>, maximum: f32, activations: &mut ChunkActivations) = decay_body
}

#[inline(always)]
fn decay_body(chunk: &Chunk<'_>, mut maximum: f32, activations: &mut ChunkActivations) {
    let rows = chunk.rows;
    let mut through = maximum;
    // D row by row: `log f` is added to the row above, so nothing cancels as it would in b_t − b_s, and the largest
    // of a row is exactly what the token-by-token form finds
    for t in 0..rows {
        let forget = log_sigmoid(chunk.inputs.forget_gate[chunk.gate_place(t)]);
        let input = chunk.inputs.input_gate[chunk.gate_place(t)];
        let (above, row) = activations.weights.split_at_mut(t * rows);
        if t > 0 {
            for (d, above) in row[..t].iter_mut().zip(&above[(t - 1) * rows..]) {
                *d = above + forget;
            }
        }
        row[t] = input;
        through += forget;
        maximum = (maximum + forget).max(input);
        activations.carried[t] = through;
        activations.maxima[t] = maximum;
    }
    for (t, row) in activations.weights.chunks_exact_mut(rows).enumerate().take(rows) {
        let maximum = activations.maxima[t];
        activations.carried[t] = exp(activations.carried[t] - maximum);
        // whole vectors, the last of which may begin what is hidden
        for d in &mut row[..(t + 1).next_multiple_of(16).min(rows)] {
            *d = exp(*d - maximum);
        }
        row[t + 1..].fill(0.0);
    }
}

crate::isa::multiversion! {
    /// `S` from `q·k̂`; then `e_t q_t` and the denominators.
    fn weigh(chunk: &Chunk<'_>, before: Option<&[f32]>, activations: &mut ChunkActivations) = weigh_body
}

#[inline(always)]
fn weigh_body(chunk: &Chunk<'_>, before: Option<&[f32]>, activations: &mut ChunkActivations) {
    let (rows, width) = (chunk.rows, chunk.shape.key);
    for t in 0..rows {
        let row = &mut activations.scores[t * rows..(t + 1) * rows];
        for (score, weight) in row.iter_mut().zip(&activations.weights[t * rows..(t + 1) * rows]) {
            *score *= weight;
        }
        let mut sum = sum_by(rows, |s| row[s]);
        if let Some(state) = before {
            let carried = activations.carried[t];
            let target = &mut activations.queries[t * width..(t + 1) * width];
            for (out, query) in target.iter_mut().zip(chunk.query(t)) {
                *out = carried * query;
            }
            sum += dot(target, parts(chunk.shape, state).1);
        }
        activations.denominators[t] = sum;
    }
}
