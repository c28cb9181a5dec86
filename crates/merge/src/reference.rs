//! The dense float64 reference, entry by entry as the formulas read, and the property that the fast path equals it.
//!
//! Test code only. Every f32 result is held to its forward error bound (Higham, *Accuracy and Stability of Numerical
//! Algorithms*, §3.1: n roundings cost at most n·u, relative to the sum of magnitudes), so no tolerance is a guess.
//! Where an f32 product may land on the other side of a trim threshold, or a vote is almost a tie, by the same
//! bound, the entry is left out.

use proptest::prelude::*;

use crate::combine::{CombineRule, Divisor, Onto, Vote};
use crate::factors::combined;
use crate::low_rank::LowRankProduct;
use crate::method::Sparsity;
use crate::options::Rescale;
use crate::peft::{DenseRows, LowRankUpdate};
use crate::random::Stream;
use crate::sparsify::{Density, Sparsification, sparsify};
use crate::tiles::{Representation, RowSource, TensorTiles, Workspace};
use crate::{Sign, TieBreak, Trim};

/// u, the relative error of one rounding to f32.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// One adapter's factors for one tensor.
#[derive(Clone, Debug)]
struct Adapter {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    scale: f32,
    weight: f32,
    trim: Trim,
}

/// A random merge of one tensor.
#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    columns: usize,
    base: Vec<f32>,
    adapters: Vec<Adapter>,
    sign: Sign,
    zero: TieBreak,
    normalize: bool,
    lambda: f32,
}

/// Values spread evenly over [−1, 1), from a seed: proptest then shrinks shapes, not numbers.
fn draw(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let step = move |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(step).collect()
}

fn case() -> impl Strategy<Value = Case> {
    let adapter = (1_usize..24, any::<u64>(), 0.1_f32..4.0, 0.05_f32..3.0, 0_u32..100);
    (
        (1_usize..40, 1_usize..70, any::<u64>()),
        prop::collection::vec(adapter, 1..6),
        prop_oneof![Just(Sign::Frequency), Just(Sign::Total)],
        prop_oneof![Just(TieBreak::Drop), Just(TieBreak::Positive)],
        any::<bool>(),
        -2.0_f32..2.0,
    )
        .prop_map(
            |((rows, columns, seed), adapters, sign, zero, normalize, lambda)| Case {
                rows,
                columns,
                base: draw(seed, rows * columns),
                adapters: adapters
                    .into_iter()
                    .map(|(rank, seed, scale, weight, percent)| Adapter {
                        a: draw(seed, rank * columns),
                        b: draw(!seed, rows * rank),
                        rank,
                        scale,
                        weight,
                        trim: format!("0.{percent:02}").parse().unwrap_or(Trim::DEFAULT),
                    })
                    .collect(),
                sign,
                zero,
                normalize,
                lambda,
            },
        )
}

/// B·A·scale in f64, and the same over magnitudes, which its rounding errors are relative to.
fn product(adapter: &Adapter, rows: usize, columns: usize) -> (Vec<f64>, Vec<f64>) {
    let entry = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        let terms = (0..adapter.rank)
            .map(|k| f64::from(adapter.b[row * adapter.rank + k]) * f64::from(adapter.a[k * columns + column]));
        let scale = f64::from(adapter.scale);
        let sum: f64 = terms.clone().sum();
        let magnitude: f64 = terms.map(f64::abs).sum();
        (sum * scale, magnitude * scale)
    };
    (0..rows * columns).map(entry).unzip()
}

/// What is known of one entry of one adapter's change after trimming.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The change in f64; zero when trimmed.
    delta: f64,
    /// How far the change in f32 may be from it.
    error: f64,
    /// Σ|b·a|·scale, whether trimmed or not.
    magnitude: f64,
    kept: bool,
    /// Too near the threshold for f32 to decide as f64 does.
    near: bool,
}

/// An adapter's change, trimmed.
fn trimmed(adapter: &Adapter, rows: usize, columns: usize) -> Vec<Entry> {
    let (delta, magnitudes) = product(adapter, rows, columns);
    let mut order: Vec<usize> = (0..delta.len()).collect();
    order.sort_by(|&left, &right| delta[right].abs().total_cmp(&delta[left].abs()));
    let (kept, dropped) = order.split_at(adapter.trim.kept(delta.len()));
    // A chain of `rank` fused multiply-adds and the scale.
    let error = |at: usize| (adapter.rank + 1) as f64 * ROUNDING * magnitudes[at];
    let lowest = kept
        .iter()
        .map(|&at| delta[at].abs() - error(at))
        .fold(f64::INFINITY, f64::min);
    let highest = dropped
        .iter()
        .map(|&at| delta[at].abs() + error(at))
        .fold(f64::NEG_INFINITY, f64::max);
    let mut is_kept = vec![false; delta.len()];
    kept.iter().for_each(|&at| is_kept[at] = true);
    (0..delta.len())
        .map(|at| Entry {
            delta: if is_kept[at] { delta[at] } else { 0.0 },
            error: error(at),
            magnitude: magnitudes[at],
            kept: is_kept[at],
            near: if is_kept[at] {
                delta[at].abs() - error(at) <= highest
            } else {
                delta[at].abs() + error(at) >= lowest
            },
        })
        .collect()
}

/// The merged change of every entry in f64 and the error that f32 may make; `None` where f32 may decide otherwise.
fn ties(case: &Case) -> Vec<Option<(f64, f64)>> {
    let inputs: Vec<_> = case
        .adapters
        .iter()
        .map(|adapter| trimmed(adapter, case.rows, case.columns))
        .collect();
    let weights: Vec<f64> = case.adapters.iter().map(|adapter| f64::from(adapter.weight)).collect();
    let entry = |at: usize| {
        let voters: Vec<(Entry, f64)> = inputs
            .iter()
            .map(|input| input[at])
            .zip(weights.iter().copied())
            .collect();
        // A change that may be zero or of either sign has a vote that f32 cannot know.
        let unknown = |(entry, _): &(Entry, f64)| entry.near || entry.kept && entry.delta.abs() <= entry.error;
        if voters.iter().any(unknown) {
            return None;
        }
        let votes = || voters.iter().filter(|(entry, _)| entry.kept).copied();
        let lead: f64 = match case.sign {
            Sign::Frequency => votes().map(|(entry, _)| entry.delta.signum()).sum(),
            Sign::Total => votes().map(|(entry, weight)| weight * entry.delta).sum(),
        };
        // One product and one sum a voter, beyond the change's own error.
        let slack: f64 = votes()
            .map(|(entry, weight)| weight * (entry.error + 2.0 * voters.len() as f64 * ROUNDING * entry.magnitude))
            .sum();
        if case.sign == Sign::Total && lead.abs() <= slack && votes().next().is_some() {
            return None;
        }
        let elected = match case.zero {
            _ if lead != 0.0 => lead.signum(),
            TieBreak::Drop => 0.0,
            TieBreak::Positive | TieBreak::Majority => 1.0,
        };
        let agreeing = || votes().filter(|(entry, _)| entry.delta.signum() == elected);
        let sum: f64 = agreeing().map(|(entry, weight)| weight * entry.delta).sum();
        let magnitude: f64 = agreeing().map(|(entry, weight)| weight * entry.magnitude).sum();
        let divisor: f64 = agreeing().map(|(_, weight)| weight).sum();
        let share = f64::from(case.lambda) / if case.normalize && divisor != 0.0 { divisor } else { 1.0 };
        Some((share * sum, roundings(case) * share.abs() * magnitude))
    };
    (0..case.rows * case.columns).map(entry).collect()
}

/// n·u for the longest chain of roundings in a case: the rank and its scale, a weight, a sum and a divisor's sum an
/// adapter, the division and λ.
fn roundings(case: &Case) -> f64 {
    let rank = case.adapters.iter().map(|adapter| adapter.rank).max().unwrap_or(0);
    (rank + 1 + 3 * case.adapters.len() + 2) as f64 * ROUNDING
}

/// Whether a merged weight is the base plus the change, to the change's error and the rounding of their sum.
fn agrees(merged: f32, expected: f64, error: f64) -> bool {
    (f64::from(merged) - expected).abs() <= error + ROUNDING * (expected.abs() + error)
}

/// Runs the fast path of a case with a rule, onto the case's base, in f32; once with the inputs kept in memory and
/// once without, which must make no difference.
fn fast(case: &Case, rule: &CombineRule, select: bool) -> Vec<f32> {
    let sparsifications: Vec<Sparsification> = case
        .adapters
        .iter()
        .map(|adapter| Sparsification {
            density: Density::Exact(adapter.trim),
            gamma: 0.0,
            epsilon: 0.0,
            rescale: Rescale::None,
            stream: Stream::new(0, "", "", ""),
            with_ties: false,
            threshold: None,
        })
        .collect();
    let base = DenseRows {
        values: case.base.clone(),
        columns: case.columns,
        representation: Representation::Whole,
    };
    let run = |budget| {
        let rows: Vec<Box<dyn RowSource>> = case
            .adapters
            .iter()
            .map(|adapter| -> Box<dyn RowSource> {
                let Adapter { a, b, rank, scale, .. } = adapter;
                Box::new(LowRankUpdate(LowRankProduct::new(
                    a,
                    b.clone(),
                    *rank,
                    case.columns,
                    *scale,
                )))
            })
            .collect();
        let mut workspace = Workspace::shared(budget);
        let shape = [case.rows, case.columns];
        let mut tensor = TensorTiles::new(&shape, Representation::Change, &base, rows, &mut workspace);
        let sparsity = select.then_some(Sparsity::Largest);
        let masks = sparsify(&mut tensor, sparsity, &sparsifications).expect("finite");
        let weights: Vec<f32> = case.adapters.iter().map(|adapter| adapter.weight).collect();
        combined(&mut tensor, rule, &masks, &weights).expect("nothing is read")
    };
    let kept = run(usize::MAX);
    assert_eq!(kept, run(0));
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn ties_equals_the_reference(case in case()) {
        let divisor = if case.normalize { Divisor::Agreeing } else { Divisor::One };
        let tie_sign = if case.zero == TieBreak::Drop { 0.0 } else { 1.0 };
        let vote = Vote { sign: case.sign, tie_sign, weighted: true, vote_in_f32: false };
        let rule = CombineRule { election: Some(vote), divisor, lambda: case.lambda, onto: Onto::Base };
        let merged = fast(&case, &rule, true);
        let mut unknown = 0;
        for ((merged, base), expected) in merged.iter().zip(&case.base).zip(ties(&case)) {
            let Some((change, error)) = expected else { unknown += 1; continue };
            let expected = f64::from(*base) + change;
            prop_assert!(agrees(*merged, expected, error), "{merged} instead of {expected} ± {error}");
        }
        prop_assert!(unknown <= 2 + merged.len() / 20, "{unknown} of {} left out", merged.len());
    }

    #[test]
    fn sums_equal_the_reference(case in case()) {
        let weights: f64 = case.adapters.iter().map(|adapter| f64::from(adapter.weight)).sum();
        let divisor = if case.normalize { Divisor::Fixed(weights as f32) } else { Divisor::One };
        let rule = CombineRule { election: None, divisor, lambda: case.lambda, onto: Onto::Base };
        let merged = fast(&case, &rule, false);
        let share = f64::from(case.lambda) / if case.normalize { weights } else { 1.0 };
        let deltas: Vec<_> = case.adapters.iter().map(|adapter| product(adapter, case.rows, case.columns)).collect();
        for (at, merged) in merged.iter().enumerate() {
            let weighted = || deltas.iter().zip(&case.adapters).map(|(delta, adapter)| (f64::from(adapter.weight), delta));
            let sum: f64 = weighted().map(|(weight, (delta, _))| weight * delta[at]).sum();
            let magnitude: f64 = weighted().map(|(weight, (_, magnitude))| weight * magnitude[at]).sum();
            let expected = f64::from(case.base[at]) + share * sum;
            let error = roundings(&case) * share.abs() * magnitude;
            prop_assert!(agrees(*merged, expected, error), "{merged} instead of {expected} ± {error}");
        }
    }
}
