//! The gradients of one chunk of the mLSTM cell; names as in `chunk`.
//!
//! With `c = max(|den|, e^{−M}) + ε` and `P_ts = dh_t·v_s`: `dnum = dh/c`; `dden = −(dh·h)/c·sign(den)` where `|den|` is
//! the larger, else 0; `dS_ts = P_ts/c_t + dden_t`; `dh·h = (Σ_s S_ts P_ts + e_t qᵀC dh_t)/c_t`, so numerators are not
//! needed again. `G = dS ⊙ S` and `E_t = e_t(qᵀC dnum_t + dden_t n·q_t)` are the gradients of the exponents `D_ts` and
//! `b_t + m`. The state after the chunk is made with the last row of `W` and `e`, so what it asks of exponents adds to
//! the last row of `G` and of `E`. `M` is a constant: `h` depends on it through ε alone, which is left out.

use super::{
    MlstmShape,
    chunk::{Chunk, ChunkActivations, multiply, parts},
    denominator,
};
use crate::{
    Accumulate,
    gemm::{Left, Right, Term, grow},
    math::{dot, exp, sum_by},
};

/// Scratch buffers of a task; vectors may be longer than a chunk needs.
#[derive(Default)]
pub(super) struct ChunkGradients {
    activations: ChunkActivations,
    /// The gradient of the state after the chunk, then of the one before it: `dC [dk, dv]`, `dn [dk]`.
    state: Vec<f32>,
    /// `P`, then `G`: `[rows, rows]`.
    d_scores: Vec<f32>,
    /// `C dh`, then the queries' gradient by the state before, then all of it: `[rows, dk]`.
    pub(super) dq: Vec<f32>,
    /// `dC' v`, then the keys' gradient by the state after, then all of it: `[rows, dk]`.
    pub(super) dk: Vec<f32>,
    /// The values' gradient, `[rows, dv]`.
    pub(super) dv: Vec<f32>,
    /// `dnum [rows, dv]`.
    numerators: Vec<f32>,
    /// `dden [rows]`.
    denominators: Vec<f32>,
    /// `E [rows]`.
    carried: Vec<f32>,
    /// Sums of `G` over the rows from the last, then the gradient of `ĩ`: `[rows]`.
    pub(super) inputs: Vec<f32>,
    /// The gradient of `log f`, `[rows]`.
    pub(super) forgets: Vec<f32>,
}

impl ChunkGradients {
    /// The gradients of one chunk, which begins with the state `before` and hands one on unless it is the `last`.
    pub(super) fn compute(&mut self, chunk: &Chunk<'_>, (before, last): (Option<&[f32]>, bool), dh: &[f32]) {
        let MlstmShape { key, value, .. } = chunk.shape;
        let rows = chunk.rows;
        self.activations.compute(chunk, before);
        self.grow(chunk);
        let dh = &dh[chunk.value_place(0)..];
        self.multiply_values(chunk, (before, last), dh);
        let by_carried = if last { 0.0 } else { self.by_state_after(chunk, before) };
        gradient_rows(chunk, before, (dh, &mut *self));
        if !last {
            for (gradient, asked) in self.d_scores[(rows - 1) * rows..rows * rows]
                .iter_mut()
                .zip(&self.inputs)
            {
                *gradient += asked;
            }
            self.carried[rows - 1] += by_carried;
        }
        exponents(rows, self);
        let add = |more: bool| if more { Accumulate::Add } else { Accumulate::Overwrite };
        let width = chunk.shape.key_width();
        // `gradient_rows` leaves dS ⊙ W, scaled, in the weights' place
        let by_keys = term(
            Left::rows(&self.activations.weights, rows),
            Right::rows(chunk.keys(), width),
            rows,
        );
        multiply((rows, key), &[by_keys], add(before.is_some()), &mut self.dq);
        let by_queries = term(
            Left::transposed(&self.activations.weights, rows),
            Right::rows(chunk.queries(), width),
            rows,
        );
        multiply((rows, key), &[by_queries], add(!last), &mut self.dk);
        let numerators = Right::rows(&self.numerators, value);
        let inside = term(Left::transposed(&self.activations.scores, rows), numerators, rows);
        if last {
            multiply((rows, value), &[inside], Accumulate::Overwrite, &mut self.dv);
        } else {
            let written = term(
                Left::rows(&self.activations.keys, key),
                Right::rows(&self.state, value),
                key,
            );
            multiply((rows, value), &[inside, written], Accumulate::Overwrite, &mut self.dv);
        }
        if before.is_some() {
            self.by_state_before(chunk, last);
        }
    }

    fn grow(&mut self, chunk: &Chunk<'_>) {
        let MlstmShape { key, value, .. } = chunk.shape;
        let rows = chunk.rows;
        grow(&mut self.state, key * value + key);
        grow(&mut self.d_scores, rows * rows);
        grow(&mut self.dq, rows * key);
        grow(&mut self.dk, rows * key);
        grow(&mut self.dv, rows * value);
        grow(&mut self.numerators, rows * value);
        for vector in [
            &mut self.denominators,
            &mut self.carried,
            &mut self.inputs,
            &mut self.forgets,
        ] {
            grow(vector, rows);
        }
    }

    /// The products with the widths of values: `P = dh·v`, `C dh` and `dC' v`.
    fn multiply_values(&mut self, chunk: &Chunk<'_>, (before, last): (Option<&[f32]>, bool), dh: &[f32]) {
        let MlstmShape { key, value, .. } = chunk.shape;
        let (rows, width) = (chunk.rows, chunk.shape.value_width());
        let dh = Left::rows(dh, width);
        let by_values = term(dh, Right::transposed(chunk.values(), width), value);
        multiply((rows, rows), &[by_values], Accumulate::Overwrite, &mut self.d_scores);
        if let Some(state) = before {
            let memory = Right::transposed(parts(chunk.shape, state).0, value);
            multiply(
                (rows, key),
                &[term(dh, memory, value)],
                Accumulate::Overwrite,
                &mut self.dq,
            );
        }
        if !last {
            let by_state = term(
                Left::rows(chunk.values(), width),
                Right::transposed(&self.state, value),
                value,
            );
            multiply((rows, key), &[by_state], Accumulate::Overwrite, &mut self.dk);
        }
    }

    /// What the state after the chunk asks: of the keys, of the exponents `D_Ls` (left in `inputs`) and, returned, of
    /// `b_L + m`.
    fn by_state_after(&mut self, chunk: &Chunk<'_>, before: Option<&[f32]>) -> f32 {
        let (rows, width, scale) = (chunk.rows, chunk.shape.key, chunk.shape.scale());
        self.activations.compute_keys(chunk);
        let (d_memory, d_normalizer) = parts(chunk.shape, &self.state);
        let weights = &self.activations.weights[(rows - 1) * rows..rows * rows];
        for (s, (row, weight)) in self.dk.chunks_exact_mut(width).zip(weights).enumerate() {
            for (gradient, dn) in row.iter_mut().zip(d_normalizer) {
                *gradient = scale * weight * (*gradient + dn);
            }
            self.inputs[s] = inner(chunk.key(s), row);
        }
        before.map_or(0.0, |state| {
            let (memory, normalizer) = parts(chunk.shape, state);
            self.activations.carried[rows - 1] * (inner(d_memory, memory) + inner(d_normalizer, normalizer))
        })
    }

    /// The gradient of the state before the chunk, in place of that of the state after it.
    fn by_state_before(&mut self, chunk: &Chunk<'_>, last: bool) {
        let MlstmShape { key, value, .. } = chunk.shape;
        let rows = chunk.rows;
        let state = &mut self.state[..key * value + key];
        if last {
            state.fill(0.0);
        } else {
            let keep = self.activations.carried[rows - 1];
            state.iter_mut().for_each(|gradient| *gradient *= keep);
        }
        let (memory, normalizer) = state.split_at_mut(key * value);
        let read = term(
            Left::transposed(&self.activations.queries, key),
            Right::rows(&self.numerators, value),
            rows,
        );
        multiply((key, value), &[read], Accumulate::Add, memory);
        for (query, dden) in self
            .activations
            .queries
            .chunks_exact(key)
            .zip(&self.denominators[..rows])
        {
            normalizer
                .iter_mut()
                .zip(query)
                .for_each(|(dn, query)| *dn += dden * query);
        }
    }
}

fn term<'a>(left: Left<'a>, right: Right<'a>, k: usize) -> Term<'a> {
    Term {
        left,
        right,
        k,
        scale: 1.0,
    }
}

crate::isa::multiversion! {
    fn inner(a: &[f32], b: &[f32]) -> f32 = dot
}

crate::isa::multiversion! {
    /// Row by row the gradients of numerators, denominators, `S` (as `G`, and as `dS ⊙ W` scaled, in the weights'
    /// place) and of what was read from the state before; the gradient of `h`, `[rows, dv]`, lies `heads * dv` apart.
    fn gradient_rows(chunk: &Chunk<'_>, before: Option<&[f32]>, work: (&[f32], &mut ChunkGradients)) = gradient_rows_body
}

#[inline(always)]
fn gradient_rows_body(chunk: &Chunk<'_>, before: Option<&[f32]>, (dh, work): (&[f32], &mut ChunkGradients)) {
    let MlstmShape { key, value, .. } = chunk.shape;
    let (rows, width, scale) = (chunk.rows, chunk.shape.value_width(), chunk.shape.scale());
    let normalizer = before.map(|state| parts(chunk.shape, state).1);
    for t in 0..rows {
        let scores = &work.activations.scores[t * rows..(t + 1) * rows];
        let weights = &mut work.activations.weights[t * rows..(t + 1) * rows];
        let d_scores = &mut work.d_scores[t * rows..(t + 1) * rows];
        let read = &mut work.dq[t * key..(t + 1) * key];
        let (sum, bound) = (work.activations.denominators[t], exp(-work.activations.maxima[t]));
        let inverse = 1.0 / denominator(sum, work.activations.maxima[t]);
        let mut product = sum_by(rows, |s| scores[s] * d_scores[s]);
        if before.is_some() {
            product += dot(&work.activations.queries[t * key..(t + 1) * key], read);
        }
        let dden = if sum.abs() > bound {
            -(product * inverse) * inverse * sum.signum()
        } else {
            0.0
        };
        for ((gradient, weight), score) in d_scores.iter_mut().zip(weights).zip(scores) {
            let ds = *gradient * inverse + dden;
            *gradient = ds * score;
            *weight *= ds * scale;
        }
        work.denominators[t] = dden;
        work.carried[t] = normalizer.map_or(0.0, |normalizer| {
            let carried = work.activations.carried[t];
            for (gradient, n) in read.iter_mut().zip(normalizer) {
                *gradient = carried * (*gradient * inverse + dden * n);
            }
            dot(chunk.query(t), read)
        });
        let numerators = &mut work.numerators[t * value..(t + 1) * value];
        for (out, dh) in numerators.iter_mut().zip(&dh[t * width..t * width + value]) {
            *out = dh * inverse;
        }
    }
}

crate::isa::multiversion! {
    /// From `G` and `E` the gradients of `ĩ` and `log f`.
    fn exponents(rows: usize, work: &mut ChunkGradients) = exponents_body
}

/// `log f_t` is in every `D_t's` and `b_t'` with `s < t ≤ t'`: the rows' sums are carried from the last row to the first,
/// so that nothing that cancels is ever added.
#[inline(always)]
fn exponents_body(rows: usize, work: &mut ChunkGradients) {
    let sums = &mut work.inputs[..rows];
    sums.fill(0.0);
    let mut through = 0.0;
    for t in (0..rows).rev() {
        for (sum, gradient) in sums[..=t].iter_mut().zip(&work.d_scores[t * rows..]) {
            *sum += gradient;
        }
        through += work.carried[t];
        work.forgets[t] = through + sum_by(t, |s| sums[s]);
    }
}
