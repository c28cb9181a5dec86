//! The sLSTM cell (Beck et al. 2024, "xLSTM: Extended Long Short-Term Memory"): scalar memories with exponential gates
//! that read the cell's own last output, head by head.
//!
//! With `p_g = pre_g + R_g h_{t−1}` for `g` in z, i, f, o: `z = tanh p_z`, `o = σ(p_o)`,
//! `m_t = max(ln σ(p_f) + m_{t−1}, p_i)`, `i' = exp(p_i − m_t)`, `f' = exp(ln σ(p_f) + m_{t−1} − m_t)`,
//! `c_t = f'·c_{t−1} + i'·z`, `n_t = f'·n_{t−1} + i'`, `h_t = o·c_t/n_t`; at a document's first token `m = p_i` and
//! `f' = 0`. One of `i'` and `f'` is 1, so `n ≥ 1` ever after. Tokens come one after another: there is no form in chunks.
//! What this is not: the block around it, with `W x + b`, its convolution, norm and projections.

mod backward;
mod step;

use std::{cell::RefCell, ops::Range};

pub use backward::{SlstmGradients, backward};
use step::step;

use super::documents;
use crate::{
    gemm::grow,
    parallel::{SharedMut, for_each_row_block, parallel_for},
};

/// Gates: z, i, f and o.
const GATES: usize = 4;
/// Vectors of a state: c, n, h and m.
const STATE: usize = 4;
/// Elements computed at once. Inside, a head is padded to whole ones.
const LANES: usize = 16;
type Lanes = [f32; LANES];

/// Vectors that the backward pass needs of a token: z, i', f', o, σ(−p_f), c and n, and the h before it.
const RECORD: usize = 8;
/// The vectors of these that [`step`] writes in place of the gates.
const KEPT: usize = 5;
/// Where a record's c and n begin, and its h.
const RECORD_STATE: usize = KEPT;
const RECORD_H: usize = 7;

/// Sizes that all documents share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlstmShape {
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub dim: usize,
}

impl SlstmShape {
    /// Length of a document's state: `[4, heads * dim]`, c, n, h and m.
    pub fn state(self) -> usize {
        STATE * self.width()
    }

    fn width(self) -> usize {
        self.heads * self.dim
    }

    /// A head's width in whole lanes.
    fn padded(self) -> usize {
        self.dim.next_multiple_of(LANES)
    }

    /// Elements of a head's recurrent matrices, `[4, dim, dim]`.
    fn matrices(self) -> usize {
        GATES * self.dim * self.dim
    }

    /// Where vector `index` of a row `t` of such vectors, `[t, count, heads * dim]`, has a head.
    fn place(self, t: usize, (index, count): (usize, usize), head: usize) -> usize {
        (t * count + index) * self.width() + head * self.dim
    }

    /// Where the record of a head of row `t` begins: `[t, heads, 8, padded]`.
    fn record(self, t: usize, head: usize) -> usize {
        (t * self.heads + head) * RECORD * self.padded()
    }
}

/// The inputs of the cell, documents concatenated.
#[derive(Debug, Clone, Copy)]
pub struct SlstmInputs<'a> {
    /// `W x + b` of the gates z, i, f and o: `[t, 4, heads * dim]`.
    pub pre: &'a [f32],
    /// The recurrent matrices R, `[heads, 4, dim (out), dim (in)]`.
    pub recurrent: &'a [f32],
}

impl SlstmInputs<'_> {
    /// The rows of each document, once every operand and `h` (or its gradient) are known to have them.
    fn documents(&self, shape: SlstmShape, lengths: &[usize], h: &[f32]) -> Vec<Range<usize>> {
        let total: usize = lengths.iter().sum();
        assert!(
            self.pre.len() == total * GATES * shape.width()
                && self.recurrent.len() == shape.heads * shape.matrices()
                && h.len() == total * shape.width(),
            "operands of the sLSTM cell do not have {total} rows of {shape:?}"
        );
        documents(lengths).collect()
    }
}

/// The activations that [`backward`] needs.
#[derive(Debug, Clone)]
pub struct SlstmActivations {
    /// `[t, heads, 8, padded]`
    records: Vec<f32>,
}

/// The cell: `h [t, heads * dim]`. Each document's state, of [`SlstmShape::state`] elements, is read as the one before its
/// first row and left as the one after its last; zeros (n = 0) are the state of a document that begins, and without
/// states all do.
///
/// # Panics
/// If an operand does not fit the shape and the lengths.
pub fn forward(
    shape: SlstmShape,
    inputs: SlstmInputs<'_>,
    lengths: &[usize],
    states: Option<&mut [&mut [f32]]>,
    h: &mut [f32],
) {
    let documents = inputs.documents(shape, lengths, h);
    let states = states.map(|states| {
        assert!(
            states.len() == lengths.len() && states.iter().all(|state| state.len() == shape.state()),
            "a document needs a state of {} elements",
            shape.state()
        );
        states.iter_mut().map(|state| SharedMut::new(state)).collect()
    });
    let targets = Targets {
        h: SharedMut::new(h),
        states,
        records: None,
    };
    run(shape, inputs, &documents, &targets);
}

/// Same as [`forward`] for whole documents, with the same bits; also returns the activations that [`backward`] needs.
///
/// # Panics
/// If an operand does not fit the shape and the lengths.
pub fn forward_saved(shape: SlstmShape, inputs: SlstmInputs<'_>, lengths: &[usize], h: &mut [f32]) -> SlstmActivations {
    let total: usize = lengths.iter().sum();
    let documents = inputs.documents(shape, lengths, h);
    let mut records = vec![0.0; shape.record(total, 0)];
    let targets = Targets {
        h: SharedMut::new(h),
        states: None,
        records: Some(SharedMut::new(&mut records)),
    };
    run(shape, inputs, &documents, &targets);
    SlstmActivations { records }
}

/// Where the forward pass writes.
struct Targets<'a> {
    h: SharedMut<'a>,
    states: Option<Vec<SharedMut<'a>>>,
    records: Option<SharedMut<'a>>,
}

/// Scratch buffers of a task; vectors may be longer than a head needs.
#[derive(Default)]
struct Scratch {
    /// `[5, padded]`
    gates: Vec<f32>,
    /// `[4, padded]`
    state: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static TRANSPOSED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn run(shape: SlstmShape, inputs: SlstmInputs<'_>, documents: &[Range<usize>], targets: &Targets<'_>) {
    let mut transposed = TRANSPOSED.take();
    transpose(shape, inputs.recurrent, &mut transposed);
    let width = shape.dim * GATES * shape.padded();
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        let matrices = &transposed[head * width..(head + 1) * width];
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.begin(shape, head, document, targets);
            for t in documents[document].clone() {
                scratch.token(shape, (t, head), (inputs.pre, matrices), targets);
            }
            scratch.end(shape, head, document, targets);
        });
    });
    TRANSPOSED.set(transposed);
}

/// R as a row vector from the left multiplies it: `[heads, dim (in), 4, padded (out)]`, so that a product runs along
/// outputs.
fn transpose(shape: SlstmShape, recurrent: &[f32], transposed: &mut Vec<f32>) {
    let (dim, padded) = (shape.dim, shape.padded());
    let width = dim * GATES * padded;
    grow(transposed, shape.heads * width);
    for_each_row_block(&mut transposed[..shape.heads * width], width, |first, block| {
        block.fill(0.0);
        for (head, out) in (first..).zip(block.chunks_exact_mut(width)) {
            let matrices = &recurrent[head * shape.matrices()..(head + 1) * shape.matrices()];
            for (gate, matrix) in matrices.chunks_exact(dim * dim).enumerate() {
                // some rows at a time, so that what is written lies together
                for (rows, lanes) in matrix.chunks(LANES * dim).zip((0..).step_by(LANES)) {
                    for input in 0..dim {
                        let place = (input * GATES + gate) * padded + lanes;
                        for (out, row) in out[place..].iter_mut().zip(rows.chunks_exact(dim)) {
                            *out = row[input];
                        }
                    }
                }
            }
        }
    });
}

impl Scratch {
    /// Takes a head's state of a document.
    fn begin(&mut self, shape: SlstmShape, head: usize, document: usize, targets: &Targets<'_>) {
        let (dim, padded) = (shape.dim, shape.padded());
        self.gates.clear();
        self.gates.resize(KEPT * padded, 0.0);
        self.state.clear();
        self.state.resize(STATE * padded, 0.0);
        if let Some(states) = &targets.states {
            for (index, vector) in self.state.chunks_exact_mut(padded).enumerate() {
                // SAFETY: one task owns a head of a document's state, whose length was checked.
                let state = unsafe { states[document].slice(shape.place(0, (index, STATE), head), dim) };
                vector[..dim].copy_from_slice(state);
            }
        }
    }

    /// Leaves a head's state of a document.
    fn end(&self, shape: SlstmShape, head: usize, document: usize, targets: &Targets<'_>) {
        let (dim, padded) = (shape.dim, shape.padded());
        if let Some(states) = &targets.states {
            for (index, vector) in self.state.chunks_exact(padded).enumerate() {
                // SAFETY: one task owns a head of a document's state, whose length was checked.
                let state = unsafe { states[document].slice(shape.place(0, (index, STATE), head), dim) };
                state.copy_from_slice(&vector[..dim]);
            }
        }
    }

    /// One token of a head.
    fn token(
        &mut self,
        shape: SlstmShape,
        (t, head): (usize, usize),
        (pre, matrices): (&[f32], &[f32]),
        targets: &Targets<'_>,
    ) {
        let (dim, padded) = (shape.dim, shape.padded());
        for (index, gate) in self.gates.chunks_exact_mut(padded).enumerate().take(GATES) {
            gate[..dim].copy_from_slice(&pre[shape.place(t, (index, GATES), head)..][..dim]);
        }
        if let Some(records) = targets.records {
            // SAFETY: one task owns a head's records of a document.
            let record = unsafe { records.slice(shape.record(t, head), RECORD * padded) };
            let (kept, previous) = record.split_at_mut(RECORD_H * padded);
            previous.copy_from_slice(&self.state[2 * padded..3 * padded]);
            step(matrices, dim, &mut self.gates, &mut self.state);
            let (gates, state) = kept.split_at_mut(RECORD_STATE * padded);
            gates.copy_from_slice(&self.gates);
            state.copy_from_slice(&self.state[..2 * padded]);
        } else {
            step(matrices, dim, &mut self.gates, &mut self.state);
        }
        // SAFETY: one task owns a head's columns of a document, and the length of `h` was checked.
        let h = unsafe { targets.h.slice(shape.place(t, (0, 1), head), dim) };
        h.copy_from_slice(&self.state[2 * padded..][..dim]);
    }
}

#[cfg(test)]
mod tests;
