//! Elect and combine: from the inputs' changes at one entry to the merged change, block by block.
//!
//! With d = w·(surviving δ) for every input, in input order and in f32:
//! * no election: u = Σ d, divided by Σ w when normalizing; where inputs replace the base, products and sum are fused;
//! * election: s is the winning sign, u = Σ d over the inputs whose d has that sign, divided by the sum of their
//!   weights, or their number, when normalizing; nobody winning means u = 0;
//! * the merged value is θ + λ·u, in f32 ([`Onto`] has the exceptions). Rounding it is the caller's business;
//! * a method that knows the merged values already hands them in, and only the sums are taken.
//!
//! An input that does not touch a tensor, and an entry that was trimmed, have no vote.

mod election;
mod gather;
mod rule;
mod sums;
#[cfg(test)]
mod tests;

use pulp::{Arch, Simd, WithSimd};

use crate::report::Tally;
use crate::sparsify::Surviving;

use election::{add_all, elect};
use gather::{Block, gather};
pub(crate) use rule::{Divisor, Onto, Rule, Vote};
pub(crate) use sums::PieceReport;
use sums::products;

/// Entries handled at once: few enough for a block of every input to stay in a core's own caches.
const BLOCK: usize = 512;

/// One input's change to some entries of a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// δ of the piece's entries.
    pub(crate) delta: &'a [f32],
    /// w.
    pub(crate) weight: f32,
    /// What survives of it, and by which factor.
    pub(crate) surviving: Surviving<'a>,
}

/// d of one input in a block, on cache lines of its own.
#[derive(Clone)]
#[repr(align(64))]
struct Row([f32; BLOCK]);

/// Working memory of one piece, reused block after block; its rows begin on cache lines, for vectors to touch but one.
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

/// Some entries of a tensor, to be merged in one go.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// Every input that touches the tensor.
    pub(crate) changes: &'a [Change<'a>],
    pub(crate) rule: &'a Rule,
    /// Index of the piece's first entry in the tensor.
    pub(crate) start: usize,
    /// θ of the piece's entries.
    pub(crate) base: &'a [f32],
    /// Gets the merged values; holds them already where `given`.
    pub(crate) merged: &'a mut [f32],
    /// The merged values are known.
    pub(crate) given: bool,
}

impl Piece<'_> {
    /// Merges the piece, with the best vector instructions there are.
    pub(crate) fn combine(self) -> PieceReport {
        Arch::new().dispatch(self)
    }
}

impl WithSimd for Piece<'_> {
    type Output = PieceReport;

    /// The loops below are plain; what `Simd` stands for decides which instructions they become.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> PieceReport {
        let Self {
            changes,
            rule,
            start,
            base,
            merged,
            given,
        } = self;
        let mut report = PieceReport::new(changes.len());
        let mut scratch = Scratch {
            plus: [0; BLOCK],
            minus: [0; BLOCK],
            totals: [0.0; BLOCK],
            elected: [0.0; BLOCK],
            sums: [0.0; BLOCK],
            divisors: [0.0; BLOCK],
            update: [0.0; BLOCK],
            weighted: vec![Row([0.0; BLOCK]); changes.len()],
        };
        for (index, (base, merged)) in base.chunks(BLOCK).zip(merged.chunks_mut(BLOCK)).enumerate() {
            let range = index * BLOCK..index * BLOCK + base.len();
            let block = Block {
                changes,
                start,
                vote: rule.election,
            };
            let trimmed = gather(simd, &block, &range, &mut scratch, &mut report);
            report.tally.trimmed += trimmed;
            report.tally.agreeing += match rule.election {
                _ if given => trimmed,
                None => {
                    add_all(changes, rule.onto == Onto::Nothing, &range, &mut scratch);
                    trimmed
                }
                Some(vote) => {
                    let count = rule.divisor == Divisor::Count;
                    elect(simd, (changes, count), vote, range.len(), &mut scratch)
                }
            };
            if given {
                account(simd, base, merged, &mut scratch, &mut report.tally);
            } else {
                finish(simd, rule, base, merged, &mut scratch, &mut report.tally);
            }
        }
        report
    }
}

/// Divides, scales by λ and adds the base.
#[inline(always)]
fn finish<S: Simd>(simd: S, rule: &Rule, base: &[f32], merged: &mut [f32], scratch: &mut Scratch, tally: &mut Tally) {
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
    measure(simd, update, base, tally);
}

/// The merged change of values that are known already.
#[inline(always)]
fn account<S: Simd>(simd: S, base: &[f32], merged: &[f32], scratch: &mut Scratch, tally: &mut Tally) {
    let update = &mut scratch.update[..base.len()];
    for ((u, &value), &theta) in update.iter_mut().zip(merged).zip(base) {
        *u = value - theta;
    }
    measure(simd, update, base, tally);
}

/// Adds the energies of the merged change and of the base.
#[inline(always)]
fn measure<S: Simd>(simd: S, update: &[f32], base: &[f32], tally: &mut Tally) {
    let mut sums = [&mut tally.update, &mut tally.base].into_iter();
    products(simd, [(update, update), (base, base)].into_iter(), |energy| {
        if let Some(sum) = sums.next() {
            *sum += energy;
        }
    });
}
