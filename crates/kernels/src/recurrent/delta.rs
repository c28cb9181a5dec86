//! The gated delta rule: an associative memory that, before it writes a value, removes the one stored under the same key.
//!
//! Schlag et al. 2021 ("Linear transformers are secretly fast weight programmers"), in chunks Yang et al. 2024
//! ("Parallelizing linear transformers with the delta rule"), with forgetting Yang et al. 2025 ("Gated delta
//! networks"). Per document and head, `S [value, key]` starts from zero and
//!
//! `S_t = α_t·S_{t−1}·(I − β_t·k_t·k_tᵀ) + β_t·v_t·k_tᵀ`, `o_t = S_t·q_t`, `α_t = exp(log_decay_t)`;
//!
//! with `log_decay = 0` this is DeltaNet. `step` goes token by token, `chunk` holds the products of a chunk of
//! 64 tokens and `backward` their gradients. What this is not: queries and keys arrive with length 1 and β after its
//! sigmoid; nothing here normalizes, and no gate is computed.

mod backward;
mod chunk;
mod columns;
mod products;
mod step;

use std::{cell::RefCell, ops::Range};

pub use backward::{DeltaGradients, backward};
use chunk::{CHUNK, Chunk, Parts, forward};

use super::documents;
use crate::{
    math::exp,
    parallel::{SharedMut, parallel_for},
};

/// The widths of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaShape {
    /// Heads, each a memory of its own.
    pub heads: usize,
    /// Width of a head's keys and queries.
    pub key: usize,
    /// Width of a head's values.
    pub value: usize,
}

impl DeltaShape {
    /// Elements of a document's state, `heads · key · value`: head by head the transpose of `S`, `[key, value]`, so
    /// that reading and writing run along contiguous values. All zero before the first token.
    pub fn state(&self) -> usize {
        self.heads * self.memory()
    }

    /// Elements of one head's memory.
    fn memory(&self) -> usize {
        self.key * self.value
    }

    /// Where a token's key (or query) of a head lies in `[t, heads * key]`.
    fn keys(&self, token: usize, head: usize) -> Range<usize> {
        let start = (token * self.heads + head) * self.key;
        start..start + self.key
    }

    /// Where a token's value (or output) of a head lies in `[t, heads * value]`.
    fn values(&self, token: usize, head: usize) -> Range<usize> {
        let start = (token * self.heads + head) * self.value;
        start..start + self.value
    }
}

/// The inputs of the cell, documents concatenated.
#[derive(Debug, Clone, Copy)]
pub struct DeltaInputs<'a> {
    /// Queries, `[t, heads * key]`, each of length 1.
    pub q: &'a [f32],
    /// Keys, `[t, heads * key]`, each of length 1.
    pub k: &'a [f32],
    /// Values, `[t, heads * value]`.
    pub v: &'a [f32],
    /// β: how much of the old value is replaced, `[t, heads]`, from 0 to 1.
    pub beta: &'a [f32],
    /// log α: how much of the memory is kept, `[t, heads]`, at most 0; below −60 nothing is kept.
    pub log_decay: &'a [f32],
}

impl DeltaInputs<'_> {
    /// # Panics
    /// If an input or `values`, an output or its gradient, does not have the documents' rows.
    fn check(&self, shape: DeltaShape, lengths: &[usize], values: &[f32]) {
        let rows = lengths.iter().sum::<usize>();
        let (keys, wide) = (rows * shape.heads * shape.key, rows * shape.heads * shape.value);
        assert!(
            self.q.len() == keys && self.k.len() == keys && self.v.len() == wide && values.len() == wide,
            "queries, keys, values or outputs do not have {rows} rows"
        );
        assert!(
            self.beta.len() == rows * shape.heads && self.log_decay.len() == rows * shape.heads,
            "the gates do not have {rows} rows"
        );
    }
}

/// Logarithms below which a decay counts as zero: `e^-60` of anything is lost in a sum of f32, and its products with
/// small numbers would leave the range in which the machine multiplies fast.
const FORGOTTEN: f32 = -60.0;

/// `e^x` for `x ≤ 0`, zero below [`FORGOTTEN`].
#[inline(always)]
fn decay(x: f32) -> f32 {
    if x < FORGOTTEN { 0.0 } else { exp(x) }
}

/// Token by token, and the definition; writes `o [t, heads * value]`.
///
/// `states` has a slice of [`DeltaShape::state`] elements (its layout is described there) for each document: the incoming
/// state, zero at a document's start, and afterwards the outgoing one. A document may be split over several
/// calls and batched with others: its outputs keep their bits.
///
/// # Panics
/// If the inputs, `o` or `states` do not fit the shape and the lengths.
pub fn recurrent(
    shape: DeltaShape,
    inputs: DeltaInputs<'_>,
    lengths: &[usize],
    states: &mut [&mut [f32]],
    o: &mut [f32],
) {
    inputs.check(shape, lengths, o);
    assert!(
        states.len() == lengths.len() && states.iter().all(|state| state.len() == shape.state()),
        "the states do not fit the documents"
    );
    let documents: Vec<Range<usize>> = documents(lengths).collect();
    let states: Vec<SharedMut<'_>> = states.iter_mut().map(|state| SharedMut::new(state)).collect();
    let o = SharedMut::new(o);
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        // SAFETY: one task owns a head's memory of a document; the length was checked.
        let memory = unsafe { states[document].slice(head * shape.memory(), shape.memory()) };
        for token in documents[document].clone() {
            let place = shape.values(token, head);
            // SAFETY: one task owns a head's columns of a document; the length was checked.
            let o = unsafe { o.slice(place.start, place.len()) };
            step::step(shape, inputs, (token, head), memory, o);
        }
    });
}

/// The states at the starts of the chunks, which [`chunkwise`] keeps for [`backward()`].
#[derive(Debug, Clone)]
pub struct DeltaChunkStates {
    /// `[chunks, heads, key, value]`, the chunks of a document in order and the documents in order.
    states: Vec<f32>,
}

impl DeltaChunkStates {
    /// One head's memory at the start of a chunk.
    fn memory(&self, shape: DeltaShape, chunk: usize, head: usize) -> &[f32] {
        let start = (chunk * shape.heads + head) * shape.memory();
        &self.states[start..start + shape.memory()]
    }
}

/// A document and where its chunks begin among all chunks.
struct Document {
    rows: Range<usize>,
    first_chunk: usize,
}

impl Document {
    /// The chunks' numbers among all chunks, with the rows of each.
    fn chunks(&self) -> impl DoubleEndedIterator<Item = (usize, Range<usize>)> {
        let rows = self.rows.clone();
        (0..rows.len().div_ceil(CHUNK)).map(move |index| {
            let start = rows.start + index * CHUNK;
            (self.first_chunk + index, start..(start + CHUNK).min(rows.end))
        })
    }
}

/// The documents and the number of all their chunks; a chunk never spans two documents.
fn chunked(lengths: &[usize]) -> (Vec<Document>, usize) {
    let mut chunks = 0;
    let documents = documents(lengths)
        .map(|rows| {
            let first_chunk = chunks;
            chunks += rows.len().div_ceil(CHUNK);
            Document { rows, first_chunk }
        })
        .collect();
    (documents, chunks)
}

/// Scratch buffers of a task.
#[derive(Default)]
struct Scratch {
    parts: Parts,
    /// One head's memory, `[key, value]`.
    memory: Vec<f32>,
    /// The chunk's outputs, `[tokens, value]`.
    output: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Whole documents from a zero state, in chunks whose work is products of matrices; writes `o [t, heads * value]`.
///
/// # Panics
/// If the inputs or `o` do not fit the shape and the lengths.
pub fn chunkwise(shape: DeltaShape, inputs: DeltaInputs<'_>, lengths: &[usize], o: &mut [f32]) -> DeltaChunkStates {
    inputs.check(shape, lengths, o);
    let (documents, chunks) = chunked(lengths);
    let mut states = vec![0.0; chunks * shape.state()];
    let (kept, o) = (SharedMut::new(&mut states), SharedMut::new(o));
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { parts, memory, output } = scratch;
            memory.clear();
            memory.resize(shape.memory(), 0.0);
            for (index, rows) in documents[document].chunks() {
                let place = (index * shape.heads + head) * shape.memory();
                // SAFETY: one task owns a head's memories at the starts of a document's chunks.
                let boundary = unsafe { kept.slice(place, shape.memory()) };
                boundary.copy_from_slice(memory);
                let chunk = Chunk::new(shape, inputs, head, rows.clone());
                forward(chunk, parts, memory, output);
                for (token, row) in rows.zip(output.chunks_exact(shape.value)) {
                    let place = shape.values(token, head);
                    // SAFETY: one task owns a head's columns of a document; the length was checked.
                    unsafe { o.slice(place.start, place.len()) }.copy_from_slice(row);
                }
            }
        });
    });
    DeltaChunkStates { states }
}

#[cfg(test)]
mod tests;
