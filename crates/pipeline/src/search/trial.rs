//! A point of the search and how it fared.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The numbers of one merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Share of each change's entries set to zero.
    pub trim: f64,
    /// Factor on the merged change.
    pub lambda: f64,
    /// Weights by recipe.
    pub weights: BTreeMap<String, f64>,
}

/// By all its numbers: two points of one text are the same merge.
impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "trim {} lambda {}", self.trim, self.lambda)?;
        self.weights
            .iter()
            .filter(|(_, weight)| **weight != 1.0)
            .try_for_each(|(name, weight)| write!(formatter, " {name} {weight}"))
    }
}

/// How a point fared on some held-out rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Its numbers.
    #[serde(flatten)]
    pub point: Point,
    /// Mean over the domains of the share of the specialist's gain that was kept.
    pub mean_gain_kept: f64,
    /// The share of the domain that kept least.
    pub worst_gain_kept: f64,
    /// (base − merge) / (base − specialist) by domain, without those whose specialist gained nothing.
    pub gain_kept: BTreeMap<String, f64>,
    /// Held-out loss by domain, in nats per trained token.
    pub loss: BTreeMap<String, f64>,
    /// Domains that are worse than the base by more than the gate allows; chance is not asked here.
    pub regressed: Vec<String>,
}

impl Trial {
    /// Whether it stands before another: what costs no domain too much first, then the larger mean share.
    pub(super) fn beats(&self, other: &Self) -> bool {
        match (self.regressed.is_empty(), other.regressed.is_empty()) {
            (true, false) => true,
            (false, true) => false,
            _ => self.mean_gain_kept > other.mean_gain_kept,
        }
    }

    /// Whether it is at least as good in both respects and better in one.
    fn dominates(&self, other: &Self) -> bool {
        let pairs = [
            (self.mean_gain_kept, other.mean_gain_kept),
            (self.worst_gain_kept, other.worst_gain_kept),
        ];
        pairs.iter().all(|(mine, theirs)| mine >= theirs) && pairs.iter().any(|(mine, theirs)| mine > theirs)
    }
}

/// The indices of those that no other dominates.
pub(super) fn front(trials: &[Trial]) -> Vec<usize> {
    let on_front = |trial: &Trial| !trials.iter().any(|other| other.dominates(trial));
    (0..trials.len()).filter(|&index| on_front(&trials[index])).collect()
}

/// Best first; of equals the earlier.
pub(super) fn rank(trials: &mut [Trial]) {
    trials.sort_by(|left, right| match (left.beats(right), right.beats(left)) {
        (true, _) => std::cmp::Ordering::Less,
        (_, true) => std::cmp::Ordering::Greater,
        _ => std::cmp::Ordering::Equal,
    });
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A trial with these two numbers.
    pub(in super::super) fn trial(trim: f64, mean: f64, worst: f64, regressed: &[&str]) -> Trial {
        Trial {
            point: Point {
                trim,
                lambda: 1.0,
                weights: BTreeMap::from([("math".to_owned(), 1.0), ("code".to_owned(), 1.4)]),
            },
            mean_gain_kept: mean,
            worst_gain_kept: worst,
            gain_kept: BTreeMap::new(),
            loss: BTreeMap::new(),
            regressed: regressed.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_domain_that_is_lost_outweighs_any_mean() {
        let mut trials = [
            trial(0.1, 0.9, 0.5, &["code"]),
            trial(0.2, 0.7, 0.6, &[]),
            trial(0.3, 0.8, 0.6, &[]),
            trial(0.4, 0.8, 0.7, &[]),
        ];
        rank(&mut trials);
        assert_eq!(trials.each_ref().map(|trial| trial.point.trim), [0.3, 0.4, 0.2, 0.1]);
        assert_eq!(trials[0].point.to_string(), "trim 0.3 lambda 1 code 1.4");
    }

    #[test]
    fn the_front_is_what_nothing_beats_in_both() {
        let trials = [
            trial(0.1, 0.9, 0.5, &[]),
            trial(0.2, 0.8, 0.6, &[]),
            trial(0.3, 0.8, 0.5, &[]),
            trial(0.4, 0.9, 0.5, &[]),
        ];
        assert_eq!(front(&trials), [0, 1, 3]);
    }
}
