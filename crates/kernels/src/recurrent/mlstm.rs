//! The mLSTM cell (Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory"): a matrix memory with exponential gates.
//!
//! Per head, with `k̂ = k/√dk` scaled inside and gates of one number:
//! `log f = ln σ(f̃)`, `m_t = max(log f + m_{t−1}, ĩ)`, `f' = exp(log f + m_{t−1} − m_t)`, `i' = exp(ĩ − m_t)`,
//! `C_t = f'·C_{t−1} + i'·k̂ vᵀ`, `n_t = f'·n_{t−1} + i'·k̂`, `h_t = C_tᵀq / (max(|nᵀq|, exp(−m_t)) + 1e-6)`.
//! [`recurrent`] is that, token by token with a state that is carried; [`chunkwise`] computes the same in chunks, whose
//! products are matrix-shaped, and [`backward`] is its gradient. What this is not: the block around it, with its
//! projections, the norm of `h` and the output gate.

mod backward;
mod chunk;
mod chunk_gradients;
mod chunkwise;

use std::ops::Range;

pub use backward::{MlstmGradients, backward};
pub use chunkwise::{MlstmChunkStates, chunkwise};

use super::{documents, log_sigmoid};
use crate::{
    math::{dot, exp},
    parallel::{SharedMut, parallel_for},
};

/// Added to the denominator of `h`, as in the published code.
const EPSILON: f32 = 1e-6;

/// Sizes that all documents share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MlstmShape {
    /// Heads.
    pub heads: usize,
    /// Width of a head's queries and keys, `dk`.
    pub key: usize,
    /// Width of a head's values, `dv`.
    pub value: usize,
}

impl MlstmShape {
    /// Length of a document's state: `[heads, dk·dv + dk + 1]`, in each head `C [dk, dv]`, `n [dk]` and `m`.
    pub fn state(self) -> usize {
        self.heads * self.head_state()
    }

    fn head_state(self) -> usize {
        self.key * self.value + self.key + 1
    }

    fn key_width(self) -> usize {
        self.heads * self.key
    }

    fn value_width(self) -> usize {
        self.heads * self.value
    }

    /// The factor of `k̂ = k · scale`.
    fn scale(self) -> f32 {
        1.0 / (self.key as f32).sqrt()
    }
}

/// The inputs of the cell, documents concatenated.
#[derive(Debug, Clone, Copy)]
pub struct MlstmInputs<'a> {
    /// Queries, `[t, heads * dk]`.
    pub q: &'a [f32],
    /// Keys, not scaled, `[t, heads * dk]`.
    pub k: &'a [f32],
    /// Values, `[t, heads * dv]`.
    pub v: &'a [f32],
    /// The input gate before its exponential, `ĩ [t, heads]`.
    pub input_gate: &'a [f32],
    /// The forget gate before its logistic function, `f̃ [t, heads]`.
    pub forget_gate: &'a [f32],
}

impl<'a> MlstmInputs<'a> {
    /// The rows of each document, once every operand is known to have them.
    fn documents(&self, shape: MlstmShape, lengths: &[usize]) -> Vec<Range<usize>> {
        let total: usize = lengths.iter().sum();
        let (keys, values, gates) = (
            total * shape.key_width(),
            total * shape.value_width(),
            total * shape.heads,
        );
        assert!(
            self.q.len() == keys
                && self.k.len() == keys
                && self.v.len() == values
                && self.input_gate.len() == gates
                && self.forget_gate.len() == gates,
            "operands of the mLSTM cell do not have {total} rows of {shape:?}"
        );
        documents(lengths).collect()
    }

    /// One head of row `t`.
    fn token(&self, shape: MlstmShape, t: usize, head: usize) -> Token<'a> {
        let (key, value) = (
            t * shape.key_width() + head * shape.key,
            t * shape.value_width() + head * shape.value,
        );
        Token {
            query: &self.q[key..key + shape.key],
            key: &self.k[key..key + shape.key],
            value: &self.v[value..value + shape.value],
            input: self.input_gate[t * shape.heads + head],
            forget: self.forget_gate[t * shape.heads + head],
        }
    }
}

/// One head of one row.
#[derive(Clone, Copy)]
struct Token<'a> {
    query: &'a [f32],
    key: &'a [f32],
    value: &'a [f32],
    input: f32,
    forget: f32,
}

/// The cell token by token: `h [t, heads * dv]`. Each document's state, of [`MlstmShape::state`] elements, is read as the one
/// before its first row and left as the one after its last; zeros are the state of a document that begins.
///
/// # Panics
/// If an operand does not fit the shape and the lengths.
pub fn recurrent(
    shape: MlstmShape,
    inputs: MlstmInputs<'_>,
    lengths: &[usize],
    states: &mut [&mut [f32]],
    h: &mut [f32],
) {
    let documents = inputs.documents(shape, lengths);
    assert!(
        states.len() == lengths.len() && states.iter().all(|state| state.len() == shape.state()),
        "a document needs a state of {} elements",
        shape.state()
    );
    check_output(shape, lengths, h);
    let states: Vec<_> = states.iter_mut().map(|state| SharedMut::new(state)).collect();
    let h = SharedMut::new(h);
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        // SAFETY: one task owns a head of a document's state, whose length was checked.
        let state = unsafe { states[document].slice(head * shape.head_state(), shape.head_state()) };
        for t in documents[document].clone() {
            // SAFETY: one task owns a head's columns of a document.
            let h = unsafe { h.slice(t * shape.value_width() + head * shape.value, shape.value) };
            step(&inputs.token(shape, t, head), state, h);
        }
    });
}

fn check_output(shape: MlstmShape, lengths: &[usize], h: &[f32]) {
    let total: usize = lengths.iter().sum();
    assert!(
        h.len() == total * shape.value_width(),
        "`h` does not have {total} rows of {}",
        shape.value_width()
    );
}

crate::isa::multiversion! {
    /// One token of one head: `state` is `C [dk, dv]`, `n [dk]` and `m`, `h` is `[dv]`.
    fn step(token: &Token<'_>, state: &mut [f32], h: &mut [f32]) = step_body
}

#[inline(always)]
fn step_body(token: &Token<'_>, state: &mut [f32], h: &mut [f32]) {
    let (width, value) = (token.key.len(), token.value);
    let (memory, rest) = state.split_at_mut(width * value.len());
    let (normalizer, maximum) = rest.split_at_mut(width);
    let decayed = log_sigmoid(token.forget) + maximum[0];
    maximum[0] = decayed.max(token.input);
    let forget_factor = exp(decayed - maximum[0]);
    let write = exp(token.input - maximum[0]) / (width as f32).sqrt();
    for (n, key) in normalizer.iter_mut().zip(token.key) {
        *n = forget_factor * *n + write * key;
    }
    h.fill(0.0);
    for ((row, key), query) in memory.chunks_exact_mut(value.len()).zip(token.key).zip(token.query) {
        let write = write * key;
        for ((c, v), h) in row.iter_mut().zip(value).zip(&mut *h) {
            *c = forget_factor * *c + write * v;
            *h += query * *c;
        }
    }
    let inverse = 1.0 / denominator(dot(token.query, normalizer), maximum[0]);
    for h in h {
        *h *= inverse;
    }
}

/// `max(|nᵀq|, exp(−m)) + ε`.
#[inline(always)]
fn denominator(sum: f32, maximum: f32) -> f32 {
    sum.abs().max(exp(-maximum)) + EPSILON
}

#[cfg(test)]
mod tests;
