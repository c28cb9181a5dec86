//! The dense float64 reference, entry by entry as the formulas read, and the property that the fast path equals it.
//!
//! Test code only. The two can differ where an f32 product lands on the other side of a trim threshold or of a vote
//! that is almost a draw; such entries are known from the reference's own margins and are left out.

use proptest::prelude::*;
use synapse_checkpoint::DType;

use crate::combine::{Change, Divisor, Onto, Rule};
use crate::delta::{Factors, dense};
use crate::select::{Kept, largest};
use crate::tensor::{Stored, merge_tensor};
use crate::{Sign, Trim, ZeroSign};

/// Relative distance below which f32 and f64 may disagree about which side a value is on.
const MARGIN: f64 = 1e-6;

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
    zero: ZeroSign,
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
        prop_oneof![Just(ZeroSign::Drop), Just(ZeroSign::Positive)],
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

/// B·A·scale in f64.
fn product(adapter: &Adapter, rows: usize, columns: usize) -> Vec<f64> {
    let entry = |at: usize| {
        let (row, column) = (at / columns, at % columns);
        let terms = (0..adapter.rank)
            .map(|k| f64::from(adapter.b[row * adapter.rank + k]) * f64::from(adapter.a[k * columns + column]));
        terms.sum::<f64>() * f64::from(adapter.scale)
    };
    (0..rows * columns).map(entry).collect()
}

/// The trimmed change, and which entries are too near the threshold to say.
fn trimmed(delta: &[f64], trim: Trim) -> (Vec<f64>, Vec<bool>) {
    let mut order: Vec<usize> = (0..delta.len()).collect();
    order.sort_by(|&left, &right| delta[right].abs().total_cmp(&delta[left].abs()));
    let kept = trim.kept(delta.len());
    let mut out = vec![0.0; delta.len()];
    order[..kept].iter().for_each(|&at| out[at] = delta[at]);
    let edges = [order.get(kept.wrapping_sub(1)), order.get(kept)].map(|at| at.map(|&at| delta[at].abs()));
    // With a gap between the last kept and the first dropped entry, nobody is near.
    let near = match edges {
        [Some(last), Some(first)] if last - first <= MARGIN * last => delta
            .iter()
            .map(|x| (x.abs() - last).abs() <= 2.0 * MARGIN * last)
            .collect(),
        _ => vec![false; delta.len()],
    };
    (out, near)
}

/// The merged change of every entry in f64 and the scale its error is measured by; `None` where f32 may differ.
fn ties(case: &Case) -> Vec<Option<(f64, f64)>> {
    let inputs: Vec<_> = case
        .adapters
        .iter()
        .map(|adapter| trimmed(&product(adapter, case.rows, case.columns), adapter.trim))
        .collect();
    let entry = |at: usize| {
        if inputs.iter().any(|(_, near)| near[at]) {
            return None;
        }
        let d: Vec<f64> = inputs
            .iter()
            .zip(&case.adapters)
            .map(|((delta, _), adapter)| f64::from(adapter.weight) * delta[at])
            .collect();
        let scale: f64 = d.iter().map(|d| d.abs()).sum();
        // An entry that cancels almost wholly inside B·A has a sign that f32 cannot know.
        if d.iter().any(|d| *d != 0.0 && d.abs() < 1e-5) {
            return None;
        }
        let lead: f64 = match case.sign {
            Sign::Frequency => d.iter().filter(|d| **d != 0.0).map(|d| d.signum()).sum(),
            Sign::Total => d.iter().sum(),
        };
        if case.sign == Sign::Total && lead != 0.0 && lead.abs() < 1e-5 * scale.max(1.0) {
            return None;
        }
        let elected = match case.zero {
            _ if lead != 0.0 => lead.signum(),
            ZeroSign::Drop => 0.0,
            ZeroSign::Positive => 1.0,
        };
        let agreeing = || {
            d.iter()
                .zip(&case.adapters)
                .filter(|(d, _)| **d != 0.0 && d.signum() == elected)
        };
        let sum: f64 = agreeing().map(|(d, _)| d).sum();
        let divisor: f64 = agreeing().map(|(_, adapter)| f64::from(adapter.weight)).sum();
        let mean = if case.normalize && divisor != 0.0 {
            sum / divisor
        } else {
            sum
        };
        Some((f64::from(case.lambda) * mean, scale.max(1.0)))
    };
    (0..case.rows * case.columns).map(entry).collect()
}

/// Runs the fast path of a case with a rule, onto the case's base, in f32.
fn fast(case: &Case, rule: &Rule, select: bool) -> Vec<f32> {
    let entries = case.rows * case.columns;
    let deltas: Vec<Vec<f32>> = case
        .adapters
        .iter()
        .map(|adapter| {
            let mut delta = vec![0.0; entries];
            let Adapter { a, b, rank, scale, .. } = adapter;
            dense(
                &Factors {
                    a,
                    b,
                    rank: *rank,
                    columns: case.columns,
                    scale: *scale,
                },
                &mut delta,
            );
            delta
        })
        .collect();
    let changes: Vec<Change<'_>> = deltas
        .iter()
        .zip(&case.adapters)
        .map(|(delta, adapter)| {
            let kept = if select {
                largest(delta, adapter.trim.kept(entries))
            } else {
                None
            };
            Change {
                delta,
                weight: adapter.weight,
                kept: kept.unwrap_or(Kept::ALL),
            }
        })
        .collect();
    let base: Vec<u8> = case.base.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut out = vec![0; 4 * entries];
    merge_tensor(
        Stored {
            bytes: &base,
            dtype: DType::F32,
        },
        &changes,
        rule,
        DType::F32,
        &mut out,
    );
    out.as_chunks()
        .0
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn ties_equals_the_reference(case in case()) {
        let divisor = if case.normalize { Divisor::Agreeing } else { Divisor::One };
        let rule = Rule { election: Some((case.sign, case.zero)), divisor, lambda: case.lambda, onto: Onto::Base };
        let merged = fast(&case, &rule, true);
        let mut compared = 0;
        for ((merged, base), expected) in merged.iter().zip(&case.base).zip(ties(&case)) {
            let Some((change, scale)) = expected else { continue };
            compared += 1;
            let expected = f64::from(*base) + change;
            prop_assert!((f64::from(*merged) - expected).abs() <= 4e-6 * scale, "{merged} instead of {expected}");
        }
        prop_assert!(compared * 100 >= merged.len() * 95, "{compared} of {} compared", merged.len());
    }

    #[test]
    fn sums_equal_the_reference(case in case()) {
        let weights: f64 = case.adapters.iter().map(|adapter| f64::from(adapter.weight)).sum();
        let divisor = if case.normalize { Divisor::Fixed(weights as f32) } else { Divisor::One };
        let rule = Rule { election: None, divisor, lambda: case.lambda, onto: Onto::Base };
        let merged = fast(&case, &rule, false);
        let deltas: Vec<_> = case.adapters.iter().map(|adapter| product(adapter, case.rows, case.columns)).collect();
        for (at, merged) in merged.iter().enumerate() {
            let terms = || deltas.iter().zip(&case.adapters).map(|(delta, adapter)| f64::from(adapter.weight) * delta[at]);
            let sum: f64 = terms().sum();
            let scale: f64 = terms().map(f64::abs).sum();
            let change = f64::from(case.lambda) * if case.normalize { sum / weights } else { sum };
            let expected = f64::from(case.base[at]) + change;
            prop_assert!((f64::from(*merged) - expected).abs() <= 4e-6 * scale.max(1.0), "{merged} instead of {expected}");
        }
    }
}
