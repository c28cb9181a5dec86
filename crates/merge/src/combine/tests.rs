//! The election and the sums, by hand.

use super::*;
use crate::Sign;
use crate::select::TopKMask;

const VOTE: Vote = Vote {
    sign: Sign::Frequency,
    tie_sign: 0.0,
    weighted: true,
    vote_in_f32: false,
};
const TIES: CombineRule = CombineRule {
    election: Some(VOTE),
    divisor: Divisor::Agreeing,
    lambda: 1.0,
    onto: Onto::Base,
};

/// Merges whole tensors given as rows of (weight, δ) onto `base`.
fn merge(rule: &CombineRule, base: &[f32], inputs: &[(f32, &[f32])]) -> (Vec<f32>, ChunkStatistics) {
    let changes: Vec<Change<'_>> = inputs
        .iter()
        .map(|&(weight, delta)| Change {
            delta,
            weight,
            mask: TileMask::Above(TopKMask::ALL, 1.0),
        })
        .collect();
    let mut merged = vec![f32::NAN; base.len()];
    let report = Chunk {
        changes: &changes,
        start: 0,
        base,
    }
    .combine(rule, &mut merged);
    (merged, report)
}

#[test]
fn the_majority_wins_and_a_tie_merges_nothing() {
    // Entries: two against one, a tie, one voter, none, all agree.
    let inputs: [(f32, &[f32]); 3] = [
        (1.0, &[1.0, 8.0, 0.0, 0.0, 1.0]),
        (1.0, &[3.0, -1.0, -2.0, 0.0, 2.0]),
        (1.0, &[-9.0, 0.0, 0.0, 0.0, 3.0]),
    ];
    let (merged, report) = merge(&TIES, &[10.0; 5], &inputs);
    assert_eq!(merged, [12.0, 10.0, 8.0, 10.0, 12.0]);
    assert_eq!(report.accumulators.voters, [1, 1, 3]);
    assert_eq!(report.accumulators.disagreements, 2);
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
    let total = |tie_sign| CombineRule {
        election: Some(Vote {
            sign: Sign::Total,
            tie_sign,
            ..VOTE
        }),
        ..TIES
    };
    assert_eq!(merge(&total(0.0), &[10.0; 3], &inputs).0, [1.0, 18.0, 10.0]);
    // A sum of zero goes to the positive side, as in mergekit.
    assert_eq!(merge(&total(1.0), &[10.0; 3], &inputs).0, [1.0, 18.0, 12.0]);
    let frequency = CombineRule {
        election: Some(Vote { tie_sign: 1.0, ..VOTE }),
        ..TIES
    };
    assert_eq!(merge(&frequency, &[10.0; 3], &inputs).0, [12.0, 18.0, 12.0]);
}

#[test]
fn weights_scale_and_divide() {
    let inputs: [(f32, &[f32]); 2] = [(3.0, &[1.0, 1.0]), (1.0, &[5.0, -5.0])];
    // (3·1 + 1·5) / (3 + 1), and a tie by count.
    assert_eq!(merge(&TIES, &[0.0; 2], &inputs).0, [2.0, 0.0]);
    // By value, −5 outweighs 3·1: the mean over the agreeing is −5 / 1.
    let total = CombineRule {
        election: Some(Vote {
            sign: Sign::Total,
            ..VOTE
        }),
        ..TIES
    };
    assert_eq!(merge(&total, &[0.0; 2], &inputs).0, [2.0, -5.0]);
    // Unweighted, 1 − 5 still is negative; divided by number, the larger weight counts for one.
    let plain = CombineRule {
        election: Some(Vote {
            sign: Sign::Total,
            weighted: false,
            ..VOTE
        }),
        divisor: Divisor::Count,
        ..TIES
    };
    assert_eq!(merge(&plain, &[0.0; 2], &inputs).0, [4.0, -5.0]);
    let raw = CombineRule {
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
    let sum = CombineRule {
        election: None,
        divisor: Divisor::One,
        lambda: 2.0,
        onto: Onto::Base,
    };
    assert_eq!(merge(&sum, &[1.0, 1.0], &inputs).0, [9.0, 9.0]);
    let mean = CombineRule {
        divisor: Divisor::Fixed(2.0),
        lambda: 1.0,
        ..sum
    };
    assert_eq!(merge(&mean, &[1.0, 1.0], &inputs).0, [3.0, 3.0]);
    let whole = CombineRule {
        onto: Onto::Nothing,
        ..mean
    };
    assert_eq!(merge(&whole, &[1.0, 1.0], &inputs).0, [2.0, 2.0]);
    let scaled = CombineRule {
        onto: Onto::Scaled(2.0),
        divisor: Divisor::One,
        lambda: 1.0,
        ..sum
    };
    assert_eq!(merge(&scaled, &[1.0, 1.0], &inputs).0, [6.0, 6.0]);
    let report = merge(&sum, &[1.0, 1.0], &inputs).1;
    assert_eq!(crate::EnergyLost::from(&report.accumulators).vote, 0.0);
    assert_eq!(report.accumulators.update, 64.0 + 64.0);
}

#[test]
fn trimming_decides_who_votes() {
    let delta: Vec<f32> = (0..2 * BLOCK).map(|at| if at % 2 == 0 { 1.0 } else { -2.0 }).collect();
    // Every −2 and the first three 1s survive.
    let kept = TopKMask::ties_below(1.0_f32.to_bits(), 6);
    let changes = [Change {
        delta: &delta,
        weight: 1.0,
        mask: TileMask::Above(kept, 1.0),
    }];
    let mut merged = vec![0.0; delta.len()];
    let report = Chunk {
        changes: &changes,
        start: 0,
        base: &vec![0.0; delta.len()],
    }
    .combine(&TIES, &mut merged);
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
