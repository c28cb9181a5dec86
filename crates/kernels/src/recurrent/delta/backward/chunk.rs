//! The gradients of one chunk, in the notation of its forward pass (`delta/chunk.rs`).
//!
//! Let `D` be the gradient of the outgoing state and `G_t` that of `u_t` with all that follows from it:
//!
//! `G_t = Σ_{s≥t} P_st·do_s + Γ_Lt·D·k_t − Σ_{s>t} N_st·de_s`, `de_t = β_t·G_t` (back substitution),
//! `dv_t = de_t`, `dβ_t = G_t·e_t`, `dN_ts = −de_t·u_s`, `dP_ts = do_t·u_s`,
//! `dq_t = γ_t·Sᵀ·do_t + Σ_{s≤t} Γ_ts·dP_ts·k_s`,
//! `dk_t = −γ_t·Sᵀ·de_t + Γ_Lt·Dᵀ·u_t + Σ_{s<t} Γ_ts·dN_ts·k_s + Σ_{s>t} Γ_st·dN_st·k_s + Σ_{s≥t} Γ_st·dP_st·q_s`,
//! `dS = γ_L·D + Σ_t γ_t·(do_t·q_tᵀ − de_t·k_tᵀ)`.
//!
//! A decay `exp(x)` gives its exponent its own gradient times its value, so with `g_t = log γ_t`,
//! `H_ts = dN_ts·N_ts + dP_ts·P_ts` and `z_t = Γ_Lt·u_t·D·k_t`,
//! `dg_t = γ_t·(q_t·Sᵀ·do_t − k_t·Sᵀ·de_t) + Σ_{s<t} H_ts − Σ_{s>t} H_st − z_t`, and `γ_L·⟨S, D⟩ + Σ z` more for
//! the last; `log_decay_i` is in every `g_t` from `i` on.

use super::super::{
    DeltaShape,
    chunk::{CHUNK, Chunk, Parts},
    columns::{Columns, for_columns, load},
    products::{add, inner, multiply, scale, scale_rows, term},
};
use crate::{
    gemm::{Left, Right},
    math::sum_by,
};

/// Scratch buffers of a task: the chunk's gradients, of exact lengths.
#[derive(Default)]
pub(super) struct Scratch {
    parts: Parts,
    /// `D` and then `dS`, transposed as the state is, `[key, value]`.
    pub(super) d_memory: Vec<f32>,
    /// `G_t`, `[L, value]`.
    d_written: Vec<f32>,
    /// `de_t`, which is `dv_t`, `[L, value]`.
    pub(super) d_errors: Vec<f32>,
    /// `γ_t·do_t`, `[L, value]`.
    d_output_at_start: Vec<f32>,
    /// `−γ_t·de_t`, `[L, value]`.
    d_errors_at_start: Vec<f32>,
    /// `dN_ts` and then `Γ_ts·dN_ts`, `[L, L]`.
    d_overlaps: Vec<f32>,
    /// `dP_ts` and then `Γ_ts·dP_ts`, `[L, L]`.
    d_reads: Vec<f32>,
    /// `[L, key]`
    pub(super) d_q: Vec<f32>,
    /// `[L, key]`
    pub(super) d_k: Vec<f32>,
    /// `[L]`
    pub(super) d_beta: Vec<f32>,
    /// `dg_t`, and then the gradient of `log_decay`, `[L]`.
    pub(super) d_sums: Vec<f32>,
}

impl Scratch {
    /// The gradients of one chunk from the state before it, `memory [key, value]`, and the gradient of its outputs,
    /// rows [`Chunk::value_stride`] apart; `d_memory` goes from the chunk's end to its start.
    pub(super) fn chunk(&mut self, chunk: Chunk<'_>, memory: &[f32], d_o: &[f32]) {
        self.parts.compute(chunk, memory);
        self.resize(chunk.count, chunk.shape);
        self.values(chunk, d_o);
        self.pairs(chunk, d_o);
        self.keys(chunk, memory, d_o);
        // log_decay_i is in every sum from i on
        let mut sum = 0.0;
        for d_sum in self.d_sums.iter_mut().rev() {
            sum += *d_sum;
            *d_sum = sum;
        }
    }

    fn resize(&mut self, count: usize, shape: DeltaShape) {
        for buffer in [
            &mut self.d_written,
            &mut self.d_errors,
            &mut self.d_output_at_start,
            &mut self.d_errors_at_start,
        ] {
            buffer.resize(count * shape.value, 0.0);
        }
        self.d_overlaps.resize(count * count, 0.0);
        self.d_reads.resize(count * count, 0.0);
        self.d_q.resize(count * shape.key, 0.0);
        self.d_k.resize(count * shape.key, 0.0);
        self.d_beta.resize(count, 0.0);
        self.d_sums.resize(count, 0.0);
    }

    /// `G`, `de` and `dβ`; begins `dg` with `z`.
    fn values(&mut self, chunk: Chunk<'_>, d_o: &[f32]) {
        let (count, DeltaShape { key, value, .. }) = (chunk.count, chunk.shape);
        let parts = &self.parts;
        let k = Left::rows(chunk.k(), chunk.key_stride());
        multiply(
            (count, value),
            &[term(k, Right::rows(&self.d_memory, value), key)],
            &mut self.d_written,
        );
        let to_end = &parts.decays[(count - 1) * count..];
        let mut at_end = 0.0;
        let written = parts.written.chunks_exact(value);
        for (t, (row, written)) in self.d_written.chunks_exact_mut(value).zip(written).enumerate() {
            scale(to_end[t], row);
            let z = inner(written, row);
            self.d_sums[t] = -z;
            at_end += z;
        }
        self.d_sums[count - 1] += at_end;
        let reads = Left::transposed(&parts.reads, count);
        let d_output = Right::rows(d_o, chunk.value_stride());
        add((count, value), &[term(reads, d_output, count)], &mut self.d_written);
        let mut substitution = BackSubstitution {
            beta: &parts.beta,
            overlaps: &parts.overlaps,
            width: value,
            d_written: &mut self.d_written,
            d_errors: &mut self.d_errors,
        };
        for_columns(&mut substitution, value);
        let rows = self.d_written.chunks_exact(value).zip(parts.errors.chunks_exact(value));
        for (d_beta, (gradient, error)) in self.d_beta.iter_mut().zip(rows) {
            *d_beta = inner(gradient, error);
        }
    }

    /// `dN` and `dP`, their part of `dg`, and both with their decays.
    fn pairs(&mut self, chunk: Chunk<'_>, d_o: &[f32]) {
        let (count, value) = (chunk.count, chunk.shape.value);
        let written = Right::transposed(&self.parts.written, value);
        let d_errors = Left::rows(&self.d_errors, value);
        let mut d_overlaps = term(d_errors, written, value);
        d_overlaps.scale = -1.0;
        multiply((count, count), &[d_overlaps], &mut self.d_overlaps);
        let d_output = Left::rows(d_o, chunk.value_stride());
        multiply((count, count), &[term(d_output, written, value)], &mut self.d_reads);
        decay_pairs(&self.parts, &mut self.d_overlaps, &mut self.d_reads, &mut self.d_sums);
    }

    /// `dq`, `dk` and `dS`, and what the state before the chunk gives `dg`.
    fn keys(&mut self, chunk: Chunk<'_>, memory: &[f32], d_o: &[f32]) {
        let (count, DeltaShape { key, value, .. }, stride) = (chunk.count, chunk.shape, chunk.key_stride());
        let parts = &self.parts;
        let rows = (d_o, chunk.value_stride());
        scale_rows(&parts.from_start, rows, &mut self.d_output_at_start);
        scale_rows(&parts.from_start, (&self.d_errors, value), &mut self.d_errors_at_start);
        scale(-1.0, &mut self.d_errors_at_start);
        let state = Right::transposed(memory, value);
        let (d_output, d_errors) = (&self.d_output_at_start, &self.d_errors_at_start);
        multiply(
            (count, key),
            &[term(Left::rows(d_output, value), state, value)],
            &mut self.d_q,
        );
        multiply(
            (count, key),
            &[term(Left::rows(d_errors, value), state, value)],
            &mut self.d_k,
        );
        let rows = self.d_q.chunks_exact(key).zip(self.d_k.chunks_exact(key));
        for (t, (d_q, d_k)) in rows.enumerate() {
            let place = t * stride..t * stride + key;
            self.d_sums[t] += inner(&chunk.q()[place.clone()], d_q) + inner(&chunk.k()[place], d_k);
        }
        self.d_sums[count - 1] += parts.across() * inner(memory, &self.d_memory);
        let (queries, keys) = (Right::rows(chunk.q(), stride), Right::rows(chunk.k(), stride));
        add(
            (count, key),
            &[term(Left::rows(&self.d_reads, count), keys, count)],
            &mut self.d_q,
        );
        let kept = Left::rows(&parts.kept, value);
        let terms = [
            term(Left::rows(&self.d_overlaps, count), keys, count),
            term(Left::transposed(&self.d_overlaps, count), keys, count),
            term(Left::transposed(&self.d_reads, count), queries, count),
            term(kept, Right::transposed(&self.d_memory, value), value),
        ];
        add((count, key), &terms, &mut self.d_k);
        scale(parts.across(), &mut self.d_memory);
        let terms = [
            term(Left::transposed(chunk.q(), stride), Right::rows(d_output, value), count),
            term(Left::transposed(chunk.k(), stride), Right::rows(d_errors, value), count),
        ];
        add((key, value), &terms, &mut self.d_memory);
    }
}

/// Back substitution: `G_t −= Σ_{s>t} N_st·de_s`, `de_t = β_t·G_t`.
struct BackSubstitution<'a> {
    /// `[L]`
    beta: &'a [f32],
    /// `[L, L]`
    overlaps: &'a [f32],
    width: usize,
    /// `[L, width]`
    d_written: &'a mut [f32],
    /// `[L, width]`
    d_errors: &'a mut [f32],
}

impl Columns for BackSubstitution<'_> {
    #[inline(always)]
    fn block<const W: usize>(&mut self, first: usize) {
        let (count, width) = (self.beta.len(), self.width);
        for t in (0..count).rev() {
            let mut later = [0.0f32; W];
            let rows = self.d_errors.chunks_exact(width).zip(self.overlaps.chunks_exact(count));
            for (row, overlaps) in rows.skip(t + 1) {
                let (row, overlap): ([f32; W], f32) = (load(row, first), overlaps[t]);
                for lane in 0..W {
                    later[lane] += overlap * row[lane];
                }
            }
            let (beta, place) = (self.beta[t], t * width + first);
            let (mut d_written, mut d_errors): ([f32; W], _) = (load(self.d_written, place), [0.0; W]);
            for lane in 0..W {
                d_written[lane] -= later[lane];
                d_errors[lane] = beta * d_written[lane];
            }
            self.d_written[place..place + W].copy_from_slice(&d_written);
            self.d_errors[place..place + W].copy_from_slice(&d_errors);
        }
    }
}

crate::isa::multiversion! {
    /// Adds `Σ_{s<t} H_ts − Σ_{s>t} H_st` to `d_sums [L]`; `dN` and `dP`, `[L, L]`, become `Γ ⊙ dN` and `Γ ⊙ dP`,
    /// zero where `N` and `P` are.
    fn decay_pairs(parts: &Parts, d_overlaps: &mut [f32], d_reads: &mut [f32], d_sums: &mut [f32]) = decay_pairs_body
}

#[inline(always)]
fn decay_pairs_body(parts: &Parts, d_overlaps: &mut [f32], d_reads: &mut [f32], d_sums: &mut [f32]) {
    let count = d_sums.len();
    let mut exponents = [0.0f32; CHUNK];
    for t in 0..count {
        let (past, row) = (t * count..t * count + t, t * count..(t + 1) * count);
        let (decays, overlaps, reads) = (
            &parts.decays[past.clone()],
            &parts.overlaps[past.clone()],
            &parts.reads[past],
        );
        let (d_overlaps, rest) = d_overlaps[row.clone()].split_at_mut(t);
        rest.fill(0.0);
        // on the diagonal of P the decay is 1 and has no exponent
        let (d_reads, rest) = d_reads[row].split_at_mut(t);
        rest[1..].fill(0.0);
        let (before, exponents) = (&mut d_sums[..t], &mut exponents[..t]);
        for s in 0..t {
            let exponent = d_overlaps[s] * overlaps[s] + d_reads[s] * reads[s];
            exponents[s] = exponent;
            before[s] -= exponent;
            d_overlaps[s] *= decays[s];
            d_reads[s] *= decays[s];
        }
        d_sums[t] += sum_by(t, |s| exponents[s]);
    }
}
