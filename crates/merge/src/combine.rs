//! Elect and combine: from the inputs' changes at one entry to the merged change, block by block.
//!
//! With d = w·(masked δ) for every input, in input order and in f32:
//! * no election: u = Σ d, divided by Σ w when normalizing; where inputs are whole weights, products and sum are fused;
//! * election: s is the winning sign, u = Σ d over the inputs whose d has that sign, divided by the sum of their
//!   weights, or their number, when normalizing; u = 0 where neither sign wins;
//! * the merged value is θ + λ·u, in f32 ([`Onto`] has the exceptions). Rounding it is the sink's task.
//!
//! An input without the tensor, and an entry that was trimmed, have no vote. [`Chunk::describe`] takes the same
//! statistics of values that another method has merged.

mod election;
mod gather;
mod rule;
mod sums;
#[cfg(test)]
mod tests;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::sparsify::TileMask;

use election::{add_all, elect};
use gather::gather;
pub(crate) use rule::{CombineRule, Divisor, Onto, Vote};
use sums::products;
pub(crate) use sums::{Accumulators, ChunkStatistics};

/// Entries handled at once: few enough for a block of every input to stay in a core's own caches.
const BLOCK: usize = 512;

/// One input's change to some entries of a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// δ of the chunk's entries.
    pub(crate) delta: &'a [f32],
    /// w.
    pub(crate) weight: f32,
    /// Which of its entries are kept, and by which factor they are multiplied.
    pub(crate) mask: TileMask<'a>,
}

/// d of one input in a block, on cache lines of its own.
#[derive(Clone)]
#[repr(align(64))]
struct Row([f32; BLOCK]);

/// Working memory of one chunk, reused for every block. Rows begin on cache lines, so that a vector lies within one.
#[repr(C, align(64))]
struct Scratch {
    plus: [i32; BLOCK],
    minus: [i32; BLOCK],
    totals: [f64; BLOCK],
    elected: [f32; BLOCK],
    sums: [f32; BLOCK],
    divisors: [f32; BLOCK],
    update: [f32; BLOCK],
    /// d of every input.
    weighted: Vec<Row>,
}

impl Scratch {
    fn new(inputs: usize) -> Self {
        Self {
            plus: [0; BLOCK],
            minus: [0; BLOCK],
            totals: [0.0; BLOCK],
            elected: [0.0; BLOCK],
            sums: [0.0; BLOCK],
            divisors: [0.0; BLOCK],
            update: [0.0; BLOCK],
            weighted: vec![Row([0.0; BLOCK]); inputs],
        }
    }
}

/// Some entries of a tensor with every input's change to them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    /// Every input that contributes to the tensor.
    pub(crate) changes: &'a [Change<'a>],
    /// Index of the chunk's first entry in the tensor.
    pub(crate) start: usize,
    /// θ of the chunk's entries.
    pub(crate) base: &'a [f32],
}

impl Chunk<'_> {
    /// Writes the merged values, with the best vector instructions there are.
    pub(crate) fn combine(&self, rule: &CombineRule, merged: &mut [f32]) -> ChunkStatistics {
        Arch::new().dispatch(Combine {
            chunk: self,
            rule,
            merged,
        })
    }

    /// Takes the statistics of values that were merged by another method.
    pub(crate) fn describe(&self, merged: &[f32]) -> ChunkStatistics {
        Arch::new().dispatch(Describe { chunk: self, merged })
    }

    /// The ranges of the chunk's blocks.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let entries = self.base.len();
        (0..entries)
            .step_by(BLOCK)
            .map(move |start| start..entries.min(start + BLOCK))
    }
}

/// [`Chunk::combine`] for one instruction set.
struct Combine<'a> {
    chunk: &'a Chunk<'a>,
    rule: &'a CombineRule,
    merged: &'a mut [f32],
}

impl WithSimd for Combine<'_> {
    type Output = ChunkStatistics;

    /// The loops are plain; `Simd` decides which instructions they become.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> ChunkStatistics {
        let Self { chunk, rule, merged } = self;
        let changes = chunk.changes;
        let mut statistics = ChunkStatistics::new(changes.len());
        let mut scratch = Scratch::new(changes.len());
        for range in chunk.blocks() {
            let trimmed = gather(simd, chunk, rule.election, &range, &mut scratch, &mut statistics);
            statistics.accumulators.trimmed += trimmed;
            statistics.accumulators.agreeing += match rule.election {
                None => {
                    add_all(changes, rule.onto == Onto::Nothing, &range, &mut scratch);
                    trimmed
                }
                Some(vote) => {
                    let count = rule.divisor == Divisor::Count;
                    elect(simd, (changes, count), vote, range.len(), &mut scratch)
                }
            };
            let (base, merged) = (&chunk.base[range.clone()], &mut merged[range]);
            finish(simd, rule, base, merged, &mut scratch, &mut statistics.accumulators);
        }
        statistics
    }
}

/// [`Chunk::describe`] for one instruction set.
struct Describe<'a> {
    chunk: &'a Chunk<'a>,
    merged: &'a [f32],
}

impl WithSimd for Describe<'_> {
    type Output = ChunkStatistics;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> ChunkStatistics {
        let Self { chunk, merged } = self;
        let mut statistics = ChunkStatistics::new(chunk.changes.len());
        let mut scratch = Scratch::new(chunk.changes.len());
        for range in chunk.blocks() {
            let trimmed = gather(simd, chunk, None, &range, &mut scratch, &mut statistics);
            statistics.accumulators.trimmed += trimmed;
            // Nothing is lost to a vote.
            statistics.accumulators.agreeing += trimmed;
            let update = &mut scratch.update[..range.len()];
            let (base, merged) = (&chunk.base[range.clone()], &merged[range]);
            for ((u, &value), &theta) in update.iter_mut().zip(merged).zip(base) {
                *u = value - theta;
            }
            add_energies(simd, update, base, &mut statistics.accumulators);
        }
        statistics
    }
}

/// Divides, scales by λ and adds the base.
#[inline(always)]
fn finish<S: Simd>(
    simd: S,
    rule: &CombineRule,
    base: &[f32],
    merged: &mut [f32],
    scratch: &mut Scratch,
    accumulators: &mut Accumulators,
) {
    let length = base.len();
    let update = &mut scratch.update[..length];
    match rule.divisor {
        Divisor::One => update.copy_from_slice(&scratch.sums[..length]),
        Divisor::Fixed(divisor) => {
            for (u, &sum) in update.iter_mut().zip(&scratch.sums) {
                *u = sum / divisor;
            }
        }
        Divisor::Agreeing | Divisor::Count => {
            for ((u, &sum), &divisor) in update.iter_mut().zip(&scratch.sums).zip(&scratch.divisors) {
                *u = if divisor == 0.0 { sum } else { sum / divisor };
            }
        }
    }
    for u in &mut *update {
        *u *= rule.lambda;
    }
    match rule.onto {
        Onto::Base => {
            for ((merged, &theta), &u) in merged.iter_mut().zip(base).zip(&*update) {
                *merged = theta + u;
            }
        }
        Onto::Scaled(factor) => {
            for ((merged, &theta), &u) in merged.iter_mut().zip(base).zip(&*update) {
                *merged = factor * theta + u;
            }
        }
        Onto::Nothing => merged.copy_from_slice(update),
    }
    add_energies(simd, update, base, accumulators);
}

/// Adds the energies of the merged change and of the base.
#[inline(always)]
fn add_energies<S: Simd>(simd: S, update: &[f32], base: &[f32], accumulators: &mut Accumulators) {
    let mut sums = [&mut accumulators.update, &mut accumulators.base].into_iter();
    products(simd, [(update, update), (base, base)].into_iter(), |energy| {
        if let Some(sum) = sums.next() {
            *sum += energy;
        }
    });
}
