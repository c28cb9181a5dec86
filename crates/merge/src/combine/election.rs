//! The second step of a block: the winning sign of every entry, and the sum of the changes that have it.

use std::ops::Range;

use pulp::Simd;

use super::gather::squares;
use super::rule::Vote;
use super::sums::products;
use super::{Change, Scratch};
use crate::Sign;

/// Without an election: Σ d in input order, or Σ w·θᵢ fused. Nothing is lost to a vote.
#[inline(always)]
pub(super) fn add_all(changes: &[Change<'_>], fused: bool, range: &Range<usize>, scratch: &mut Scratch) {
    let sums = &mut scratch.sums[..range.len()];
    sums.fill(0.0);
    for (change, weighted) in changes.iter().zip(&scratch.weighted) {
        if fused {
            for (sum, &x) in sums.iter_mut().zip(&change.delta[range.clone()]) {
                *sum = change.weight.mul_add(x, *sum);
            }
        } else {
            for (sum, &d) in sums.iter_mut().zip(&weighted.0) {
                *sum += d;
            }
        }
    }
}

/// The election: the winning sign of every entry, the sum of the changes that have it, and of their weights or their
/// number. Returns the energy of the changes that agree.
#[inline(always)]
pub(super) fn elect<S: Simd>(
    simd: S,
    (changes, count): (&[Change<'_>], bool),
    election: Vote,
    length: usize,
    scratch: &mut Scratch,
) -> f64 {
    vote(election, length, scratch);
    let elected = &scratch.elected[..length];
    let sums = &mut scratch.sums[..length];
    let divisors = &mut scratch.divisors[..length];
    sums.fill(0.0);
    divisors.fill(0.0);
    for (change, weighted) in changes.iter().zip(&mut scratch.weighted) {
        let votes = &mut weighted.0[..length];
        let share = if count { 1.0 } else { change.weight };
        for (d, &elected) in votes.iter_mut().zip(elected) {
            let agrees = (*d > 0.0) & (elected > 0.0) | (*d < 0.0) & (elected < 0.0);
            *d = if agrees { *d } else { 0.0 };
        }
        for ((sum, divisor), &d) in sums.iter_mut().zip(&mut *divisors).zip(&*votes) {
            *sum += d;
            *divisor += if d == 0.0 { 0.0 } else { share };
        }
    }
    let mut agreeing = 0.0;
    products(simd, squares(&scratch.weighted, length), |energy| agreeing += energy);
    agreeing
}

/// Writes the winning sign of every entry, +1, −1, or 0 where neither wins.
#[inline(always)]
fn vote(vote: Vote, length: usize, scratch: &mut Scratch) {
    let totals = &mut scratch.totals[..length];
    if vote.sign == Sign::Frequency {
        for ((total, &plus), &minus) in totals.iter_mut().zip(&scratch.plus).zip(&scratch.minus) {
            *total = f64::from(plus - minus);
        }
    }
    for (elected, &total) in scratch.elected.iter_mut().zip(&*totals) {
        let sign = if total < 0.0 { -1.0 } else { vote.tie_sign };
        *elected = if total > 0.0 { 1.0 } else { sign };
    }
}
