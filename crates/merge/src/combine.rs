//! Elect and combine: from the inputs' changes at one entry to the merged change, block by block.
//!
//! With d = w·(surviving δ) for every input, in input order and in f32:
//! * no election: u = Σ d, divided by Σ w when normalising; where inputs replace the base, products and sum are fused;
//! * election: s is the winning sign, u = Σ d over the inputs whose d has that sign, divided by the sum of their
//!   weights, or their number, when normalising; nobody winning means u = 0;
//! * the merged value is θ + λ·u, in f32 ([`Onto`] has the exceptions). Rounding it is the caller's business;
//! * a method that knows the merged values already hands them in, and only the sums are taken.
//!
//! An input that does not touch a tensor, and an entry that was trimmed, have no vote.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::Sign;
use crate::report::Tally;
use crate::select::magnitude;
use crate::sparsify::Surviving;

/// Entries handled at once: few enough for a block of every input to stay in a core's own caches.
const BLOCK: usize = 1024;
/// Independent partial sums of a reduction; fixed, so that sums do not depend on the vector width.
const LANES: usize = 16;

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

/// How the sign of an entry is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Vote {
    /// Who wins.
    pub(crate) sign: Sign,
    /// The sign that a draw elects; 0 for none.
    pub(crate) drawn: f32,
    /// Values vote with their weights.
    pub(crate) weighted: bool,
    /// Votes are summed in f32 as mergekit sums them, not in f64.
    pub(crate) single: bool,
}

/// How changes become one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule {
    /// Elect a sign per entry, or add everything.
    pub(crate) election: Option<Vote>,
    /// What u is divided by.
    pub(crate) divisor: Divisor,
    /// λ.
    pub(crate) lambda: f32,
    /// What the changes are added to.
    pub(crate) onto: Onto,
}

/// What the combined change is added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Onto {
    /// The base.
    Base,
    /// The base times a factor.
    Scaled(f32),
    /// Nothing: the "changes" are whole weights.
    Nothing,
}

/// What the combined change is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Divisor {
    /// Nothing.
    One,
    /// The sum of the weights that went into the entry.
    Agreeing,
    /// The number of inputs that went into the entry.
    Count,
    /// The same number everywhere: the sum of all inputs' weights.
    Fixed(f32),
}

/// Per-input sums over a piece of a tensor, and the piece's tally.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PieceReport {
    pub(crate) tally: Tally,
    pub(crate) inputs: Vec<InputSums>,
    /// Σ δᵢδⱼ for i < j.
    pub(crate) products: Vec<f64>,
}

/// One input's sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct InputSums {
    /// Non-zero entries that were kept.
    pub(crate) kept: u64,
    /// Σ δ².
    pub(crate) energy: f64,
    /// Σ of the kept δ².
    pub(crate) kept_energy: f64,
}

impl PieceReport {
    /// Empty sums for `inputs` inputs.
    pub(crate) fn new(inputs: usize) -> Self {
        Self {
            tally: Tally::default(),
            inputs: vec![InputSums::default(); inputs],
            products: vec![0.0; inputs * inputs.saturating_sub(1) / 2],
        }
    }

    /// Adds another piece's sums.
    pub(crate) fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        for (mine, theirs) in self.inputs.iter_mut().zip(&other.inputs) {
            mine.kept += theirs.kept;
            mine.energy += theirs.energy;
            mine.kept_energy += theirs.kept_energy;
        }
        for (mine, theirs) in self.products.iter_mut().zip(&other.products) {
            *mine += theirs;
        }
    }
}

/// Working memory of one piece, reused block after block.
struct Scratch {
    /// d of every input, one block after another.
    weighted: Vec<[f32; BLOCK]>,
    plus: [i32; BLOCK],
    minus: [i32; BLOCK],
    totals: [f64; BLOCK],
    elected: [f32; BLOCK],
    sums: [f32; BLOCK],
    divisors: [f32; BLOCK],
    update: [f32; BLOCK],
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
    fn with_simd<S: Simd>(self, _: S) -> PieceReport {
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
            weighted: vec![[0.0; BLOCK]; changes.len()],
            plus: [0; BLOCK],
            minus: [0; BLOCK],
            totals: [0.0; BLOCK],
            elected: [0.0; BLOCK],
            sums: [0.0; BLOCK],
            divisors: [0.0; BLOCK],
            update: [0.0; BLOCK],
        };
        for (index, (base, merged)) in base.chunks(BLOCK).zip(merged.chunks_mut(BLOCK)).enumerate() {
            let range = index * BLOCK..index * BLOCK + base.len();
            let trimmed = gather(changes, start, &range, rule.election, &mut scratch, &mut report);
            report.tally.trimmed += trimmed;
            report.tally.agreeing += match rule.election {
                _ if given => trimmed,
                None => {
                    add_all(changes, rule.onto == Onto::Nothing, &range, &mut scratch);
                    trimmed
                }
                Some(vote) => elect(changes, vote, rule.divisor == Divisor::Count, range.len(), &mut scratch),
            };
            if given {
                account(base, merged, &mut scratch, &mut report.tally);
            } else {
                finish(rule, base, merged, &mut scratch, &mut report.tally);
            }
        }
        report
    }
}

/// Thins out and weights one block of every input, counts votes, and takes the sums that describe the inputs. `range`
/// lies within the piece, which begins at entry `start` of the tensor. Returns the energy of what survives, weighted.
#[inline(always)]
fn gather(
    changes: &[Change<'_>],
    start: usize,
    range: &Range<usize>,
    vote: Option<Vote>,
    scratch: &mut Scratch,
    report: &mut PieceReport,
) -> f64 {
    let mut trimmed = 0.0;
    let length = range.len();
    scratch.plus[..length].fill(0);
    scratch.minus[..length].fill(0);
    scratch.totals[..length].fill(0.0);
    let totals = vote.filter(|vote| vote.sign == Sign::Total);
    for ((change, weighted), sums) in changes.iter().zip(&mut scratch.weighted).zip(&mut report.inputs) {
        let weighted = &mut weighted[..length];
        let delta = &change.delta[range.clone()];
        survive(change, delta, start, range, weighted);
        let mut kept = 0_u32;
        for &d in &*weighted {
            kept += u32::from(d != 0.0);
        }
        let energy = dot(delta, delta);
        sums.kept += u64::from(kept);
        sums.energy += energy;
        sums.kept_energy += dot(weighted, weighted);
        let square = f64::from(change.weight) * f64::from(change.weight);
        report.tally.weighted += energy * square;
        if let Some(vote) = totals.filter(|vote| !vote.weighted) {
            add_votes(&mut scratch.totals[..length], weighted, vote.single);
        }
        for ((d, plus), minus) in weighted.iter_mut().zip(&mut scratch.plus).zip(&mut scratch.minus) {
            *d *= change.weight;
            *plus += i32::from(*d > 0.0);
            *minus += i32::from(*d < 0.0);
        }
        if let Some(vote) = totals.filter(|vote| vote.weighted) {
            add_votes(&mut scratch.totals[..length], weighted, vote.single);
        }
        trimmed += dot(weighted, weighted);
    }
    let mut pair = 0;
    for (i, left) in changes.iter().enumerate() {
        for right in &changes[i + 1..] {
            report.products[pair] += dot(&left.delta[range.clone()], &right.delta[range.clone()]);
            pair += 1;
        }
    }
    let mut voters = [0_u32; 3];
    let mut disagreements = 0_u32;
    for (&plus, &minus) in scratch.plus[..length].iter().zip(&scratch.minus[..length]) {
        let count = plus + minus;
        voters[0] += u32::from(count == 0);
        voters[1] += u32::from(count == 1);
        voters[2] += u32::from(count > 1);
        disagreements += u32::from(plus.min(minus) > 0);
    }
    report.tally.entries += length as u64;
    report.tally.disagreements += u64::from(disagreements);
    for (total, count) in report.tally.voters.iter_mut().zip(voters) {
        *total += u64::from(count);
    }
    trimmed
}

/// Writes what survives of one block of a change.
#[inline(always)]
fn survive(change: &Change<'_>, delta: &[f32], start: usize, range: &Range<usize>, out: &mut [f32]) {
    match change.surviving {
        Surviving::Above(kept, factor) => {
            let whole = start + range.start..start + range.end;
            // The rule of what is kept changes at most once, at the last kept tie.
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
        Surviving::Times(factors) => {
            for ((d, &x), &factor) in out.iter_mut().zip(delta).zip(&factors[range.clone()]) {
                *d = x * factor;
            }
        }
    }
}

/// Adds one input's votes, by value.
#[inline(always)]
fn add_votes(totals: &mut [f64], votes: &[f32], single: bool) {
    if single {
        for (total, &vote) in totals.iter_mut().zip(votes) {
            *total = f64::from(*total as f32 + vote);
        }
    } else {
        // In f64, so that the sign of a near draw is the true one.
        for (total, &vote) in totals.iter_mut().zip(votes) {
            *total += f64::from(vote);
        }
    }
}

/// Without an election: Σ d in input order, or Σ w·θᵢ fused. Nothing is lost to a vote.
#[inline(always)]
fn add_all(changes: &[Change<'_>], fused: bool, range: &Range<usize>, scratch: &mut Scratch) {
    let sums = &mut scratch.sums[..range.len()];
    sums.fill(0.0);
    for (change, weighted) in changes.iter().zip(&scratch.weighted) {
        if fused {
            for (sum, &x) in sums.iter_mut().zip(&change.delta[range.clone()]) {
                *sum = change.weight.mul_add(x, *sum);
            }
        } else {
            for (sum, &d) in sums.iter_mut().zip(weighted) {
                *sum += d;
            }
        }
    }
}

/// The election: the winning sign of every entry, the sum of the changes that have it, and of their weights or their
/// number. Returns the energy of the changes that agree.
#[inline(always)]
fn elect(changes: &[Change<'_>], election: Vote, count: bool, length: usize, scratch: &mut Scratch) -> f64 {
    vote(election, length, scratch);
    let elected = &scratch.elected[..length];
    let sums = &mut scratch.sums[..length];
    let divisors = &mut scratch.divisors[..length];
    sums.fill(0.0);
    divisors.fill(0.0);
    let mut agreeing = 0.0;
    for (change, weighted) in changes.iter().zip(&mut scratch.weighted) {
        let voices = &mut weighted[..length];
        let share = if count { 1.0 } else { change.weight };
        for (d, &elected) in voices.iter_mut().zip(elected) {
            let agrees = (*d > 0.0) & (elected > 0.0) | (*d < 0.0) & (elected < 0.0);
            *d = if agrees { *d } else { 0.0 };
        }
        for ((sum, divisor), &d) in sums.iter_mut().zip(&mut *divisors).zip(&*voices) {
            *sum += d;
            *divisor += if d == 0.0 { 0.0 } else { share };
        }
        agreeing += dot(voices, voices);
    }
    agreeing
}

/// Writes the winning sign of every entry, +1, −1, or 0 where nobody wins.
#[inline(always)]
fn vote(vote: Vote, length: usize, scratch: &mut Scratch) {
    let totals = &mut scratch.totals[..length];
    if vote.sign == Sign::Frequency {
        for ((total, &plus), &minus) in totals.iter_mut().zip(&scratch.plus).zip(&scratch.minus) {
            *total = f64::from(plus - minus);
        }
    }
    for (elected, &total) in scratch.elected.iter_mut().zip(&*totals) {
        let sign = if total < 0.0 { -1.0 } else { vote.drawn };
        *elected = if total > 0.0 { 1.0 } else { sign };
    }
}

/// Divides, scales by λ and adds the base.
#[inline(always)]
fn finish(rule: &Rule, base: &[f32], merged: &mut [f32], scratch: &mut Scratch, tally: &mut Tally) {
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
    tally.update += dot(update, update);
    tally.base += dot(base, base);
}

/// The merged change of values that are known already.
#[inline(always)]
fn account(base: &[f32], merged: &[f32], scratch: &mut Scratch, tally: &mut Tally) {
    let update = &mut scratch.update[..base.len()];
    for ((u, &value), &theta) in update.iter_mut().zip(merged).zip(base) {
        *u = value - theta;
    }
    tally.update += dot(update, update);
    tally.base += dot(base, base);
}

/// Σ x·y of one block: 16 fused f32 chains, added up in f64. For the report only; weights never pass through it.
#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let (y_blocks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_blocks.iter().zip(y_blocks) {
        // Indexed: a zip per 16 entries costs more than the entries.
        for lane in 0..LANES {
            lanes[lane] = x[lane].mul_add(y[lane], lanes[lane]);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = x.mul_add(y, *lane);
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::Kept;

    const VOTE: Vote = Vote {
        sign: Sign::Frequency,
        drawn: 0.0,
        weighted: true,
        single: false,
    };
    const TIES: Rule = Rule {
        election: Some(VOTE),
        divisor: Divisor::Agreeing,
        lambda: 1.0,
        onto: Onto::Base,
    };

    /// Merges whole tensors given as rows of (weight, δ) onto `base`.
    fn merge(rule: &Rule, base: &[f32], inputs: &[(f32, &[f32])]) -> (Vec<f32>, PieceReport) {
        let changes: Vec<Change<'_>> = inputs
            .iter()
            .map(|&(weight, delta)| Change {
                delta,
                weight,
                surviving: Surviving::Above(Kept::ALL, 1.0),
            })
            .collect();
        let mut merged = vec![f32::NAN; base.len()];
        let report = Piece {
            changes: &changes,
            rule,
            start: 0,
            base,
            merged: &mut merged,
            given: false,
        }
        .combine();
        (merged, report)
    }

    #[test]
    fn the_majority_wins_and_a_draw_merges_nothing() {
        // Entries: two against one, a draw, one voter, nobody, all agree.
        let inputs: [(f32, &[f32]); 3] = [
            (1.0, &[1.0, 8.0, 0.0, 0.0, 1.0]),
            (1.0, &[3.0, -1.0, -2.0, 0.0, 2.0]),
            (1.0, &[-9.0, 0.0, 0.0, 0.0, 3.0]),
        ];
        let (merged, report) = merge(&TIES, &[10.0; 5], &inputs);
        assert_eq!(merged, [12.0, 10.0, 8.0, 10.0, 12.0]);
        assert_eq!(report.tally.voters, [1, 1, 3]);
        assert_eq!(report.tally.disagreements, 2);
        assert_eq!(
            report.inputs.iter().map(|sums| sums.kept).collect::<Vec<_>>(),
            [3, 4, 2]
        );
    }

    #[test]
    fn the_total_follows_the_larger_side() {
        let inputs: [(f32, &[f32]); 3] = [
            (1.0, &[1.0, 8.0, 2.0]),
            (1.0, &[3.0, -1.0, -2.0]),
            (1.0, &[-9.0, 0.0, 0.0]),
        ];
        let total = |drawn| Rule {
            election: Some(Vote {
                sign: Sign::Total,
                drawn,
                ..VOTE
            }),
            ..TIES
        };
        assert_eq!(merge(&total(0.0), &[10.0; 3], &inputs).0, [1.0, 18.0, 10.0]);
        // A sum of zero goes to the positive side, as in mergekit.
        assert_eq!(merge(&total(1.0), &[10.0; 3], &inputs).0, [1.0, 18.0, 12.0]);
        let frequency = Rule {
            election: Some(Vote { drawn: 1.0, ..VOTE }),
            ..TIES
        };
        assert_eq!(merge(&frequency, &[10.0; 3], &inputs).0, [12.0, 18.0, 12.0]);
    }

    #[test]
    fn weights_scale_and_divide() {
        let inputs: [(f32, &[f32]); 2] = [(3.0, &[1.0, 1.0]), (1.0, &[5.0, -5.0])];
        // (3·1 + 1·5) / (3 + 1), and a draw by count.
        assert_eq!(merge(&TIES, &[0.0; 2], &inputs).0, [2.0, 0.0]);
        // By value, −5 outweighs 3·1: the mean over the agreeing is −5 / 1.
        let total = Rule {
            election: Some(Vote {
                sign: Sign::Total,
                ..VOTE
            }),
            ..TIES
        };
        assert_eq!(merge(&total, &[0.0; 2], &inputs).0, [2.0, -5.0]);
        // Unweighted, 1 − 5 still is negative; divided by number, the larger weight counts for one.
        let plain = Rule {
            election: Some(Vote {
                sign: Sign::Total,
                weighted: false,
                ..VOTE
            }),
            divisor: Divisor::Count,
            ..TIES
        };
        assert_eq!(merge(&plain, &[0.0; 2], &inputs).0, [4.0, -5.0]);
        let raw = Rule {
            divisor: Divisor::One,
            lambda: 0.5,
            ..TIES
        };
        assert_eq!(merge(&raw, &[0.0; 2], &inputs).0, [4.0, 0.0]);
        // A weight of zero silences an input; a negative one turns its vote round.
        let silent: [(f32, &[f32]); 2] = [(1.0, &[1.0]), (0.0, &[-5.0])];
        assert_eq!(merge(&TIES, &[0.0], &silent).0, [1.0]);
        let turned: [(f32, &[f32]); 2] = [(1.0, &[1.0]), (-1.0, &[-5.0])];
        assert_eq!(merge(&raw, &[0.0], &turned).0, [3.0]);
    }

    #[test]
    fn without_an_election_changes_add_up() {
        let inputs: [(f32, &[f32]); 2] = [(0.5, &[2.0, -4.0]), (1.5, &[2.0, 4.0])];
        let sum = Rule {
            election: None,
            divisor: Divisor::One,
            lambda: 2.0,
            onto: Onto::Base,
        };
        assert_eq!(merge(&sum, &[1.0, 1.0], &inputs).0, [9.0, 9.0]);
        let mean = Rule {
            divisor: Divisor::Fixed(2.0),
            lambda: 1.0,
            ..sum
        };
        assert_eq!(merge(&mean, &[1.0, 1.0], &inputs).0, [3.0, 3.0]);
        let whole = Rule {
            onto: Onto::Nothing,
            ..mean
        };
        assert_eq!(merge(&whole, &[1.0, 1.0], &inputs).0, [2.0, 2.0]);
        let scaled = Rule {
            onto: Onto::Scaled(2.0),
            divisor: Divisor::One,
            lambda: 1.0,
            ..sum
        };
        assert_eq!(merge(&scaled, &[1.0, 1.0], &inputs).0, [6.0, 6.0]);
        let report = merge(&sum, &[1.0, 1.0], &inputs).1;
        assert_eq!(report.tally.energy_lost().vote, 0.0);
        assert_eq!(report.tally.update, 64.0 + 64.0);
    }

    #[test]
    fn trimming_decides_who_votes() {
        let delta: Vec<f32> = (0..2 * BLOCK).map(|at| if at % 2 == 0 { 1.0 } else { -2.0 }).collect();
        // Every −2 and the first three 1s survive.
        let kept = Kept::ties_below(1.0_f32.to_bits(), 6);
        let changes = [Change {
            delta: &delta,
            weight: 1.0,
            surviving: Surviving::Above(kept, 1.0),
        }];
        let mut merged = vec![0.0; delta.len()];
        let report = Piece {
            changes: &changes,
            rule: &TIES,
            start: 0,
            base: &vec![0.0; delta.len()],
            merged: &mut merged,
            given: false,
        }
        .combine();
        let expected: Vec<f32> = (0..2 * BLOCK)
            .map(|at| {
                if at % 2 == 1 {
                    -2.0
                } else if at < 6 {
                    1.0
                } else {
                    0.0
                }
            })
            .collect();
        assert_eq!(merged, expected);
        assert_eq!(report.inputs[0].kept as usize, BLOCK + 3);
        assert_eq!(report.inputs[0].energy, 5.0 * BLOCK as f64);
        assert_eq!(report.inputs[0].kept_energy, 4.0 * BLOCK as f64 + 3.0);
    }
}
