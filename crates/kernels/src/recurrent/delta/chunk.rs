//! One head's chunk of tokens as products of matrices (Yang et al. 2024, §3; with decays Yang et al. 2025, §3.2).
//!
//! `S` is the state before the chunk and `M [key, value]` its transpose as stored, `γ_t` the product of the α up to
//! token `t` of the chunk, `Γ_ts = γ_t/γ_s`, `L` the number of tokens. Every state of the chunk is
//! `S_t = γ_t·S + Σ_{s≤t} Γ_ts·u_s·k_sᵀ`, with
//!
//! `e_t = v_t − γ_t·S·k_t − Σ_{s<t} N_ts·u_s`, `u_t = β_t·e_t`, `N_ts = Γ_ts·(k_t·k_s)` for `s < t`:
//! what is missing of the value, and what is written of it. This is the system `(I + diag(β)·N)·U = R` of the paper,
//! solved by forward substitution; in terms of `e` it needs no division where `β = 0`. Then
//!
//! `o_t = γ_t·S·q_t + Σ_{s≤t} P_ts·u_s`, `P_ts = Γ_ts·(q_t·k_s)`, and `S_L` is the next chunk's state.

use std::ops::Range;

use super::{
    DeltaInputs, DeltaShape, FORGOTTEN,
    columns::{Columns, for_columns, load},
    decay,
    products::{add, multiply, scale, scale_each, scale_rows, term},
};
use crate::gemm::{Left, Right};

/// Tokens in a chunk: products of this height pay, and what is quadratic in it does not yet weigh more than they do.
pub(super) const CHUNK: usize = 64;

/// One head's part of consecutive tokens of one document, at most [`CHUNK`].
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) shape: DeltaShape,
    pub(super) head: usize,
    pub(super) first: usize,
    pub(super) count: usize,
    inputs: DeltaInputs<'a>,
}

impl<'a> Chunk<'a> {
    pub(super) fn new(shape: DeltaShape, inputs: DeltaInputs<'a>, head: usize, rows: Range<usize>) -> Self {
        Self {
            shape,
            head,
            first: rows.start,
            count: rows.len(),
            inputs,
        }
    }

    /// The queries, rows [`Chunk::key_stride`] apart.
    pub(super) fn q(&self) -> &'a [f32] {
        &self.inputs.q[self.shape.keys(self.first, self.head).start..]
    }

    /// The keys, rows [`Chunk::key_stride`] apart.
    pub(super) fn k(&self) -> &'a [f32] {
        &self.inputs.k[self.shape.keys(self.first, self.head).start..]
    }

    /// The chunk's rows of a tensor `[t, heads * value]`, [`Chunk::value_stride`] apart.
    pub(super) fn values<'b>(&self, tensor: &'b [f32]) -> &'b [f32] {
        &tensor[self.shape.values(self.first, self.head).start..]
    }

    pub(super) fn key_stride(&self) -> usize {
        self.shape.heads * self.shape.key
    }

    pub(super) fn value_stride(&self) -> usize {
        self.shape.heads * self.shape.value
    }

    /// Where token `t` of the chunk has its gates in `[t, heads]`.
    pub(super) fn gate(&self, t: usize) -> usize {
        (self.first + t) * self.shape.heads + self.head
    }
}

/// The activations that the forward and the backward pass of a chunk share, all of exact lengths.
#[derive(Default)]
pub(super) struct Parts {
    /// `log γ_t`, `[L]`.
    sums: Vec<f64>,
    /// β, `[L]`.
    pub(super) beta: Vec<f32>,
    /// `γ_t`, `[L]`.
    pub(super) from_start: Vec<f32>,
    /// `Γ_ts`, zero for `s > t`, `[L, L]`.
    pub(super) decays: Vec<f32>,
    /// `N_ts`, zero for `s ≥ t`, `[L, L]`.
    pub(super) overlaps: Vec<f32>,
    /// `P_ts`, zero for `s > t`, `[L, L]`.
    pub(super) reads: Vec<f32>,
    /// `e_t`, `[L, value]`.
    pub(super) errors: Vec<f32>,
    /// `u_t`, `[L, value]`.
    pub(super) written: Vec<f32>,
    /// `Γ_Lt·u_t`, what the next state keeps of it, `[L, value]`.
    pub(super) kept: Vec<f32>,
}

impl Parts {
    /// Computes all parts from the chunk's inputs and the state before it, `memory [key, value]`.
    pub(super) fn compute(&mut self, chunk: Chunk<'_>, memory: &[f32]) {
        let (count, DeltaShape { key, value, .. }) = (chunk.count, chunk.shape);
        self.gates(chunk);
        self.overlaps.resize(count * count, 0.0);
        self.reads.resize(count * count, 0.0);
        let k = Left::rows(chunk.k(), chunk.key_stride());
        let q = Left::rows(chunk.q(), chunk.key_stride());
        let keys = Right::transposed(chunk.k(), chunk.key_stride());
        multiply((count, count), &[term(k, keys, key)], &mut self.overlaps);
        multiply((count, count), &[term(q, keys, key)], &mut self.reads);
        scale_each(&self.decays, &mut self.overlaps);
        scale_each(&self.decays, &mut self.reads);
        for t in 0..count {
            self.overlaps[t * count + t] = 0.0;
        }
        for buffer in [&mut self.errors, &mut self.written, &mut self.kept] {
            buffer.resize(count * value, 0.0);
        }
        // S·k of every token, which the substitution turns into the errors
        multiply(
            (count, value),
            &[term(k, Right::rows(memory, value), key)],
            &mut self.errors,
        );
        let mut substitution = Substitution {
            v: chunk.values(chunk.inputs.v),
            stride: chunk.value_stride(),
            beta: &self.beta,
            from_start: &self.from_start,
            overlaps: &self.overlaps,
            width: value,
            errors: &mut self.errors,
            written: &mut self.written,
        };
        for_columns(&mut substitution, value);
        let to_end = &self.decays[(count - 1) * count..];
        scale_rows(to_end, (&self.written, value), &mut self.kept);
    }

    /// The gates and decays. The sums are f64 and Γ comes from their differences: after a strong forgetting the sums
    /// are large, and yet the decays since then are right to the last bits, and none overflows.
    fn gates(&mut self, chunk: Chunk<'_>) {
        let count = chunk.count;
        self.sums.resize(count, 0.0);
        self.beta.resize(count, 0.0);
        self.from_start.resize(count, 0.0);
        self.decays.resize(count * count, 0.0);
        let mut sum = 0.0;
        for t in 0..count {
            let gate = chunk.gate(t);
            // from here on the decay is zero, and differences of −∞ would be NaN
            sum += f64::from(chunk.inputs.log_decay[gate].clamp(2.0 * FORGOTTEN, f32::INFINITY));
            self.sums[t] = sum;
            self.beta[t] = chunk.inputs.beta[gate];
            self.from_start[t] = decay(sum as f32);
        }
        fill_decays(&self.sums, &mut self.decays);
    }

    /// `γ_L`: what the chunk keeps of the state before it.
    pub(super) fn across(&self) -> f32 {
        self.from_start[self.from_start.len() - 1]
    }
}

/// The chunk's `output [L, value]`, and its outgoing state in place of the incoming one, `memory [key, value]`.
pub(super) fn forward(chunk: Chunk<'_>, parts: &mut Parts, memory: &mut [f32], output: &mut Vec<f32>) {
    let (count, DeltaShape { key, value, .. }) = (chunk.count, chunk.shape);
    parts.compute(chunk, memory);
    output.resize(count * value, 0.0);
    let q = Left::rows(chunk.q(), chunk.key_stride());
    multiply((count, value), &[term(q, Right::rows(&*memory, value), key)], output);
    for (row, &by) in output.chunks_exact_mut(value).zip(&parts.from_start) {
        scale(by, row);
    }
    let read = term(
        Left::rows(&parts.reads, count),
        Right::rows(&parts.written, value),
        count,
    );
    add((count, value), &[read], output);
    scale(parts.across(), memory);
    let keys = Left::transposed(chunk.k(), chunk.key_stride());
    add(
        (key, value),
        &[term(keys, Right::rows(&parts.kept, value), count)],
        memory,
    );
}

/// Forward substitution: `e_t = v_t − γ_t·(S·k_t) − Σ_{s<t} N_ts·u_s`, `u_t = β_t·e_t`.
struct Substitution<'a> {
    /// The chunk's values, rows `stride` apart.
    v: &'a [f32],
    stride: usize,
    /// `[L]`
    beta: &'a [f32],
    /// `[L]`
    from_start: &'a [f32],
    /// `[L, L]`
    overlaps: &'a [f32],
    width: usize,
    /// `S·k_t` and then `e_t`, `[L, width]`.
    errors: &'a mut [f32],
    /// `[L, width]`
    written: &'a mut [f32],
}

impl Columns for Substitution<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let (count, width) = (self.beta.len(), self.width);
        for t in 0..count {
            let mut found = [0.0f32; W];
            let overlaps = &self.overlaps[t * count..t * count + t];
            for (overlap, row) in overlaps.iter().zip(self.written.chunks_exact(width)) {
                let row: [f32; W] = load(row, first);
                for lane in 0..W {
                    found[lane] += overlap * row[lane];
                }
            }
            let (beta, from_start, place) = (self.beta[t], self.from_start[t], t * width + first);
            let v: [f32; W] = load(self.v, t * self.stride + first);
            let (mut errors, mut written): ([f32; W], _) = (load(self.errors, place), [0.0; W]);
            for lane in 0..W {
                errors[lane] = v[lane] - from_start * errors[lane] - found[lane];
                written[lane] = beta * errors[lane];
            }
            self.errors[place..place + W].copy_from_slice(&errors);
            self.written[place..place + W].copy_from_slice(&written);
        }
    }
}

crate::isa::multiversion! {
    /// `Γ_ts` from the sums of the logarithms, `[L, L]`.
    fn fill_decays(sums: &[f64], decays: &mut [f32]) = fill_decays_body
}

#[inline(always)]
fn fill_decays_body(sums: &[f64], decays: &mut [f32]) {
    for (t, row) in decays.chunks_exact_mut(sums.len()).enumerate() {
        let (past, future) = row.split_at_mut(t + 1);
        let until = sums[t];
        for (value, since) in past.iter_mut().zip(sums) {
            *value = decay((until - since) as f32);
        }
        future.fill(0.0);
    }
}
