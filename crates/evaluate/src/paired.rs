//! Two outcomes on the same items, compared pair by pair.

use serde::{Deserialize, Serialize};

use crate::outcome::{Item, Outcome, Unit, weighted};
use crate::statistics::{Interval, bootstrap, mcnemar, paired_bootstrap};
use crate::{EvaluateError, Result};

/// Significance level of McNemar's test.
const SIGNIFICANCE: f64 = 0.05;

/// Whether a difference is significant, and in which direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Significantly better.
    Better,
    /// Significantly worse.
    Worse,
    /// No significant difference.
    Same,
}

/// The difference between two models on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedComparison {
    /// The second's value minus the first's.
    pub difference: f64,
    /// 95 % interval of the difference, by paired bootstrap; `None` below two items.
    pub interval: Option<Interval>,
    /// McNemar's exact test, for binary items.
    pub p_value: Option<f64>,
    /// Number of items that only the first model got right, and only the second; for binary items.
    #[serde(default)]
    pub discordant: Option<[usize; 2]>,
    /// Better or worse, for the second.
    pub verdict: Verdict,
}

impl PairedComparison {
    /// Compares `other` with `base`.
    ///
    /// A difference in binary items is significant if McNemar's p is at most 0.05. A difference in losses, or in items
    /// that can be partly right, is significant if the paired interval excludes zero.
    ///
    /// # Errors
    /// [`EvaluateError::Unpaired`] when the two were not measured on the same items, or one was not measured.
    pub fn between(base: &Outcome, other: &Outcome) -> Result<Self> {
        check_paired(base, other)?;
        let (Some(from), Some(to)) = (base.value, other.value) else {
            return Err(unpaired(base, other, "one of them was not measured".into()));
        };
        let difference = to - from;
        let interval = paired_bootstrap(&weighted(&base.items), &weighted(&other.items));
        let decided = [base, other]
            .iter()
            .all(|outcome| outcome.items.iter().all(Item::is_binary));
        let discordant = (base.unit == Unit::Fraction && decided).then(|| {
            let right = |item: &Item| item.value > 0.5;
            let pairs = || base.items.iter().zip(&other.items);
            let only_base = pairs().filter(|(a, b)| right(a) && !right(b)).count();
            let only_other = pairs().filter(|(a, b)| !right(a) && right(b)).count();
            [only_base, only_other]
        });
        let p_value = discordant.map(|[only_base, only_other]| mcnemar(only_base, only_other));
        let beyond = match p_value {
            Some(p) => p <= SIGNIFICANCE,
            None => interval.is_some_and(|interval| !interval.contains(0.0)),
        };
        let better = (difference > 0.0) == base.higher_is_better;
        let verdict = match (beyond && difference != 0.0, better) {
            (false, _) => Verdict::Same,
            (true, true) => Verdict::Better,
            (true, false) => Verdict::Worse,
        };
        Ok(Self {
            difference,
            interval,
            p_value,
            discordant,
            verdict,
        })
    }
}

/// The share of a specialist's gain over the base that a merge keeps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GainKept {
    /// (base − merge) / (base − specialist).
    pub fraction: f64,
    /// 95 % interval, resampling the same documents for all three.
    pub interval: Option<Interval>,
}

impl GainKept {
    /// `None` if the specialist is not better than the base, or one of them was not measured.
    ///
    /// # Errors
    /// [`EvaluateError::Unpaired`] when they were not measured on the same items.
    pub fn of(base: &Outcome, specialist: &Outcome, merge: &Outcome) -> Result<Option<Self>> {
        let (Some(from), Some(best), Some(merged)) = (base.value, specialist.value, merge.value) else {
            return Ok(None);
        };
        if PairedComparison::between(base, specialist)?.verdict != Verdict::Better {
            return Ok(None);
        }
        check_paired(base, merge)?;
        let kept = |[base, specialist, merge]: [f64; 3]| (base - merge) / (base - specialist);
        let [base, specialist, merge] = [base, specialist, merge].map(|outcome| weighted(&outcome.items));
        let interval = bootstrap([&base, &specialist, &merge], kept);
        Ok(Some(Self {
            fraction: kept([from, best, merged]),
            interval,
        }))
    }
}

fn check_paired(left: &Outcome, right: &Outcome) -> Result<()> {
    if (&left.suite, &left.domain) != (&right.suite, &right.domain) {
        let message = format!(
            "they measure {} on {} and {} on {}",
            left.suite, left.domain, right.suite, right.domain
        );
        return Err(unpaired(left, right, message));
    }
    if left.items.len() != right.items.len() {
        return Err(unpaired(
            left,
            right,
            format!("{} items against {}", left.items.len(), right.items.len()),
        ));
    }
    match left.items.iter().zip(&right.items).find(|(a, b)| a.id != b.id) {
        Some((a, b)) => Err(unpaired(
            left,
            right,
            format!("item `{}` is paired with `{}`", a.id, b.id),
        )),
        None => Ok(()),
    }
}

fn unpaired(left: &Outcome, right: &Outcome, message: String) -> EvaluateError {
    EvaluateError::Unpaired {
        suite: left.suite.clone(),
        domain: left.domain.clone(),
        left: left.model.clone(),
        right: right.model.clone(),
        message,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::outcome::Identity;

    fn outcome(model: &str, unit: Unit, values: &[f64]) -> Outcome {
        let identity = Identity {
            suite: "suite",
            domain: "math",
            model,
        };
        let items = values
            .iter()
            .enumerate()
            .map(|(i, &value)| Item {
                id: format!("math-{i}"),
                value,
                weight: 1.0,
            })
            .collect();
        if unit == Unit::Fraction {
            Outcome::fractions(&identity, items)
        } else {
            Outcome::losses(&identity, items)
        }
    }

    #[test]
    fn lower_loss_is_better_and_more_right_answers_are() {
        let loss = |model, shift: f64| {
            outcome(
                model,
                Unit::NatsPerToken,
                &[1.0 + shift, 2.0 + shift, 1.5 + 1.1 * shift, 1.2 + shift],
            )
        };
        let compare = |shift| {
            PairedComparison::between(&loss("base", 0.0), &loss("other", shift))
                .unwrap()
                .verdict
        };
        assert_eq!(
            [compare(-0.1), compare(0.1), compare(0.0)],
            [Verdict::Better, Verdict::Worse, Verdict::Same]
        );

        let right = |model, n: usize| {
            let values: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i < n))).collect();
            outcome(model, Unit::Fraction, &values)
        };
        let compare = |n| PairedComparison::between(&right("base", 8), &right("other", n)).unwrap();
        assert_eq!(
            [compare(16).verdict, compare(0).verdict, compare(11).verdict],
            [Verdict::Better, Verdict::Worse, Verdict::Same]
        );
        assert!((compare(11).p_value.unwrap() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn different_items_are_not_compared() {
        let a = outcome("base", Unit::Fraction, &[1.0, 0.0]);
        let mut b = outcome("merge", Unit::Fraction, &[1.0, 0.0]);
        b.items[1].id = "math-7".into();
        let error = PairedComparison::between(&a, &b).unwrap_err().to_string();
        assert!(error.contains("item `math-1` is paired with `math-7`"), "{error}");
        let short = outcome("merge", Unit::Fraction, &[1.0]);
        assert!(
            PairedComparison::between(&a, &short)
                .unwrap_err()
                .to_string()
                .contains("2 items against 1")
        );
    }

    #[test]
    fn gain_kept_is_the_share_of_the_specialists_gain() {
        let loss = |model, by: f64| outcome(model, Unit::NatsPerToken, &[1.0 - by, 2.0 - by, 1.5 - by]);
        let (base, specialist, merge) = (loss("base", 0.0), loss("math", 0.4), loss("merge", 0.3));
        let kept = GainKept::of(&base, &specialist, &merge).unwrap().unwrap();
        assert!((kept.fraction - 0.75).abs() < 1e-9, "{kept:?}");
        let interval = kept.interval.unwrap();
        assert!(
            (interval.low - 0.75).abs() < 1e-9 && (interval.high - 0.75).abs() < 1e-9,
            "{kept:?}"
        );
        assert_eq!(GainKept::of(&base, &loss("math", -0.1), &merge).unwrap(), None);
    }
}
