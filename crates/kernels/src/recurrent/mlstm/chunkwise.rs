//! The mLSTM cell in chunks: inside a chunk every token sees every earlier one at once, and a state crosses from one
//! chunk into the next; names as in `chunk`.

use std::{cell::RefCell, ops::Range};

use super::{
    MlstmInputs, MlstmShape, check_output,
    chunk::{Chunk, ChunkActivations, multiply, parts},
    denominator,
};
use crate::{
    Accumulate,
    gemm::{Left, Right, Term, grow},
    parallel::{SharedMut, parallel_for},
};

/// Tokens per chunk: at usual head widths, the work inside a chunk then equals that of its states.
const CHUNK: usize = 64;

/// The states with which chunks begin, for the backward pass; a document's first chunk begins with zeros, and they
/// are not stored.
#[derive(Debug, Clone)]
pub struct MlstmChunkStates {
    chunk: usize,
    shape: MlstmShape,
    /// Each document's first state.
    starts: Vec<usize>,
    /// `[Σ heads * (chunks − 1), dk·dv + dk + 1]`, document by document and in it head by head.
    values: Vec<f32>,
}

impl MlstmChunkStates {
    fn new(shape: MlstmShape, chunk: usize, lengths: &[usize]) -> Self {
        let mut count = 0;
        let starts = lengths
            .iter()
            .map(|length| {
                let start = count;
                count += shape.heads * length.div_ceil(chunk).saturating_sub(1);
                start
            })
            .collect();
        Self {
            chunk,
            shape,
            starts,
            values: vec![0.0; count * shape.head_state()],
        }
    }

    /// Which elements of `values` are the states of one head of a document of `length` rows.
    fn head(&self, document: usize, head: usize, length: usize) -> Range<usize> {
        let count = length.div_ceil(self.chunk).saturating_sub(1);
        let first = self.starts[document] + head * count;
        let width = self.shape.head_state();
        first * width..(first + count) * width
    }

    /// The state before each chunk but the first of one head of a document of `length` rows.
    pub(super) fn states(&self, document: usize, head: usize, length: usize) -> &[f32] {
        &self.values[self.head(document, head, length)]
    }

    /// Tokens of a chunk.
    pub(super) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Whether these are the states of such documents.
    pub(super) fn check(&self, shape: MlstmShape, lengths: &[usize]) {
        let count: usize = lengths
            .iter()
            .map(|length| length.div_ceil(self.chunk).saturating_sub(1))
            .sum();
        assert!(
            self.shape == shape && self.starts.len() == lengths.len() && self.values.len() == count * shape.state(),
            "the boundaries are those of other documents"
        );
    }
}

#[derive(Default)]
struct Scratch {
    activations: ChunkActivations,
    /// Numerators, `[rows, dv]`.
    numerators: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The cell of whole documents, each beginning with a state of zeros: `h [t, heads * dv]`, and what [`super::backward`]
/// needs. The same numbers as [`super::recurrent`]'s up to rounding.
///
/// # Panics
/// If an operand does not fit the shape and the lengths.
pub fn chunkwise(shape: MlstmShape, inputs: MlstmInputs<'_>, lengths: &[usize], h: &mut [f32]) -> MlstmChunkStates {
    chunkwise_by(CHUNK, shape, inputs, lengths, h)
}

/// [`chunkwise`] in chunks of a given length.
pub(super) fn chunkwise_by(
    chunk: usize,
    shape: MlstmShape,
    inputs: MlstmInputs<'_>,
    lengths: &[usize],
    h: &mut [f32],
) -> MlstmChunkStates {
    let documents = inputs.documents(shape, lengths);
    check_output(shape, lengths, h);
    let mut boundaries = MlstmChunkStates::new(shape, chunk, lengths);
    let mut values = std::mem::take(&mut boundaries.values);
    let (states, h) = (SharedMut::new(&mut values), SharedMut::new(h));
    parallel_for(documents.len() * shape.heads, |task| {
        let (document, head) = (task / shape.heads, task % shape.heads);
        let rows = documents[document].clone();
        let place = boundaries.head(document, head, rows.len());
        // SAFETY: one task owns the states of a head of a document.
        let states = unsafe { states.slice(place.start, place.len()) };
        SCRATCH.with_borrow_mut(|scratch| {
            for (index, first) in rows.clone().step_by(chunk).enumerate() {
                let part = Chunk {
                    shape,
                    inputs,
                    head,
                    first,
                    rows: chunk.min(rows.end - first),
                };
                let (done, rest) = states.split_at_mut(index * shape.head_state());
                let before = done.rchunks_exact(shape.head_state()).next();
                // a document's last chunk has nothing to hand on
                let after = rest.get_mut(..shape.head_state());
                forward(&part, before, after, scratch);
                write(&part, scratch, h);
            }
        });
    });
    boundaries.values = values;
    boundaries
}

/// A chunk's numerators, and the state `after` it.
fn forward(chunk: &Chunk<'_>, before: Option<&[f32]>, after: Option<&mut [f32]>, scratch: &mut Scratch) {
    let MlstmShape { key, value, .. } = chunk.shape;
    let (rows, values) = (chunk.rows, Right::rows(chunk.values(), chunk.shape.value_width()));
    let Scratch {
        activations,
        numerators,
    } = scratch;
    activations.compute(chunk, before);
    grow(numerators, rows * value);
    let inside = Term {
        left: Left::rows(&activations.scores, rows),
        right: values,
        k: rows,
        scale: 1.0,
    };
    if let Some(state) = before {
        let carried = Term {
            left: Left::rows(&activations.queries, key),
            right: Right::rows(parts(chunk.shape, state).0, value),
            k: key,
            scale: 1.0,
        };
        multiply((rows, value), &[inside, carried], Accumulate::Overwrite, numerators);
    } else {
        multiply((rows, value), &[inside], Accumulate::Overwrite, numerators);
    }
    let Some(after) = after else { return };
    activations.compute_keys(chunk);
    let keep = activations.carried[rows - 1];
    match before {
        Some(before) => after
            .iter_mut()
            .zip(before)
            .for_each(|(after, before)| *after = keep * before),
        None => after.fill(0.0),
    }
    let (memory, rest) = after.split_at_mut(key * value);
    let (normalizer, maximum) = rest.split_at_mut(key);
    let written = Term {
        left: Left::transposed(&activations.keys, key),
        right: values,
        k: rows,
        scale: 1.0,
    };
    multiply((key, value), &[written], Accumulate::Add, memory);
    for row in activations.keys.chunks_exact(key).take(rows) {
        normalizer.iter_mut().zip(row).for_each(|(n, key)| *n += key);
    }
    maximum[0] = activations.maxima[rows - 1];
}

/// The chunk's rows of `h`: numerators by denominators.
fn write(chunk: &Chunk<'_>, scratch: &Scratch, h: SharedMut<'_>) {
    let width = chunk.shape.value;
    for (t, numerators) in scratch.numerators.chunks_exact(width).enumerate().take(chunk.rows) {
        let inverse = 1.0 / denominator(scratch.activations.denominators[t], scratch.activations.maxima[t]);
        // SAFETY: one task owns a head's columns of a document.
        let h = unsafe { h.slice(chunk.value_place(t), width) };
        h.iter_mut()
            .zip(numerators)
            .for_each(|(h, numerator)| *h = numerator * inverse);
    }
}
