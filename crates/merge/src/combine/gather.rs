//! The first step of a block: the masked changes of every input are weighted and counted, and the sums that describe the
//! inputs are taken.

use std::ops::Range;

use pulp::Simd;

use super::rule::Vote;
use super::sums::{ChunkStatistics, products};
use super::{Change, Chunk, Row, Scratch};
use crate::Sign;
use crate::select::magnitude;
use crate::sparsify::TileMask;

/// Masks and weights one block of every input, counts votes, and takes the sums that describe the inputs. `range` lies
/// within the chunk. Returns the energy of the masked, weighted changes.
#[inline(always)]
pub(super) fn gather<S: Simd>(
    simd: S,
    chunk: &Chunk<'_>,
    vote: Option<Vote>,
    range: &Range<usize>,
    scratch: &mut Scratch,
    statistics: &mut ChunkStatistics,
) -> f64 {
    let &Chunk { changes, start, .. } = chunk;
    let length = range.len();
    scratch.plus[..length].fill(0);
    scratch.minus[..length].fill(0);
    scratch.totals[..length].fill(0.0);
    let totals = vote.filter(|vote| vote.sign == Sign::Total);
    for ((change, weighted), sums) in changes.iter().zip(&mut scratch.weighted).zip(&mut statistics.inputs) {
        let weighted = &mut weighted.0[..length];
        let delta = &change.delta[range.clone()];
        apply_mask(change, delta, start, range, weighted);
        let mut kept = 0_u32;
        for &d in &*weighted {
            kept += u32::from(d != 0.0);
        }
        sums.kept += u64::from(kept);
        if change.weight != 1.0 {
            products(simd, std::iter::once((&*weighted, &*weighted)), |sum| {
                sums.kept_energy += sum;
            });
        }
        if let Some(vote) = totals.filter(|vote| !vote.weighted) {
            add_votes(&mut scratch.totals[..length], weighted, vote.vote_in_f32);
        }
        for ((d, plus), minus) in weighted.iter_mut().zip(&mut scratch.plus).zip(&mut scratch.minus) {
            *d *= change.weight;
            *plus += i32::from(*d > 0.0);
            *minus += i32::from(*d < 0.0);
        }
        if let Some(vote) = totals.filter(|vote| vote.weighted) {
            add_votes(&mut scratch.totals[..length], weighted, vote.vote_in_f32);
        }
    }
    let mut trimmed = 0.0;
    let mut inputs = changes.iter().zip(&mut statistics.inputs);
    products(simd, squares(&scratch.weighted, length), |energy| {
        trimmed += energy;
        // With a weight of one, this is the energy of what was kept.
        if let Some((change, sums)) = inputs.next()
            && change.weight == 1.0
        {
            sums.kept_energy += energy;
        }
    });
    let delta = |at: usize| &changes[at].delta[range.clone()];
    let mut inputs = changes.iter().zip(&mut statistics.inputs);
    products(simd, (0..changes.len()).map(|at| (delta(at), delta(at))), |energy| {
        if let Some((change, sums)) = inputs.next() {
            sums.energy += energy;
            statistics.accumulators.weighted += energy * (f64::from(change.weight) * f64::from(change.weight));
        }
    });
    let pairs = (0..changes.len()).flat_map(|left| (left + 1..changes.len()).map(move |right| (left, right)));
    let mut sums = statistics.products.iter_mut();
    products(
        simd,
        pairs.map(|(left, right)| (delta(left), delta(right))),
        |product| {
            if let Some(sum) = sums.next() {
                *sum += product;
            }
        },
    );
    let mut voters = [0_u32; 3];
    let mut disagreements = 0_u32;
    for (&plus, &minus) in scratch.plus[..length].iter().zip(&scratch.minus[..length]) {
        let count = plus + minus;
        voters[0] += u32::from(count == 0);
        voters[1] += u32::from(count == 1);
        voters[2] += u32::from(count > 1);
        disagreements += u32::from(plus.min(minus) > 0);
    }
    statistics.accumulators.entries += length as u64;
    statistics.accumulators.disagreements += u64::from(disagreements);
    for (total, count) in statistics.accumulators.voters.iter_mut().zip(voters) {
        *total += u64::from(count);
    }
    trimmed
}

/// Writes the entries of one block of a change that its mask keeps.
#[inline(always)]
fn apply_mask(change: &Change<'_>, delta: &[f32], start: usize, range: &Range<usize>, out: &mut [f32]) {
    match change.mask {
        TileMask::Above(kept, factor) => {
            let whole = start + range.start..start + range.end;
            // The least magnitude kept changes at most once, at the last kept tie.
            let cut = kept.cut(&whole).unwrap_or(whole.end);
            for part in [whole.start..cut, cut..whole.end] {
                let least = kept.least(&part);
                let inside = part.start - whole.start..part.end - whole.start;
                for (d, &x) in out[inside.clone()].iter_mut().zip(&delta[inside]) {
                    *d = if magnitude(x) >= least { x } else { 0.0 };
                }
            }
            if factor != 1.0 {
                out.iter_mut().for_each(|d| *d *= factor);
            }
        }
        TileMask::Times(factors) => {
            for ((d, &x), &factor) in out.iter_mut().zip(delta).zip(&factors[range.clone()]) {
                *d = x * factor;
            }
        }
    }
}

/// Adds one input's votes, by value.
#[inline(always)]
fn add_votes(totals: &mut [f64], votes: &[f32], vote_in_f32: bool) {
    if vote_in_f32 {
        for (total, &vote) in totals.iter_mut().zip(votes) {
            *total = f64::from(*total as f32 + vote);
        }
    } else {
        // In f64, so that the sign of a near tie is the true one.
        for (total, &vote) in totals.iter_mut().zip(votes) {
            *total += f64::from(vote);
        }
    }
}

/// Each input's block with itself.
#[inline(always)]
pub(super) fn squares(blocks: &[Row], length: usize) -> impl Iterator<Item = (&[f32], &[f32])> {
    blocks.iter().map(move |block| (&block.0[..length], &block.0[..length]))
}
