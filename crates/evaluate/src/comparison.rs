//! Two outcomes of the same items, pair by pair.

use serde::{Deserialize, Serialize};

use crate::outcome::{Item, Outcome, Unit};
use crate::statistics::{Interval, bootstrap, mcnemar, paired_bootstrap};
use crate::{EvaluateError, Result};

/// Above this p-value a difference in right answers may well be chance.
const SIGNIFICANCE: f64 = 0.05;

/// What a difference amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Better, beyond the interval.
    Better,
    /// Worse, beyond the interval.
    Worse,
    /// Within the interval.
    Same,
}

/// How one model did against another on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The second's value minus the first's.
    pub difference: f64,
    /// 95 % interval of the difference, by paired bootstrap; `None` below two items.
    pub interval: Option<Interval>,
    /// Exact McNemar test, where items are right or wrong.
    pub p_value: Option<f64>,
    /// Items that only the first got right, and only the second, where items are right or wrong.
    #[serde(default)]
    pub discordant: Option<[usize; 2]>,
    /// Better or worse, for the second.
    pub verdict: Verdict,
}

impl Comparison {
    /// Compares `other` with `base`.
    ///
    /// A difference in right answers is one if McNemar's p is at most 0.05; a difference in losses, or in items that
    /// are right in part, if the paired interval leaves out zero.
    ///
    /// # Errors
    /// [`EvaluateError::Unpaired`] when the two were not measured on the same items, or one was not measured.
    pub fn between(base: &Outcome, other: &Outcome) -> Result<Self> {
        check_paired(base, other)?;
        let (Some(from), Some(to)) = (base.value, other.value) else {
            return Err(unpaired(base, other, "one of them was not measured".into()));
        };
        let difference = to - from;
        let interval = paired_bootstrap(&base.items, &other.items);
        let decided = [base, other]
            .iter()
            .all(|outcome| outcome.items.iter().all(Item::is_decided));
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

/// What a merge kept of a specialist's gain over the base.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GainKept {
    /// (base − merge) / (base − specialist).
    pub fraction: f64,
    /// 95 % interval, resampling the same documents for all three.
    pub interval: Option<Interval>,
}

impl GainKept {
    /// `None` where the specialist gained nothing, so that there is nothing to keep, or one was not measured.
    ///
    /// # Errors
    /// [`EvaluateError::Unpaired`] when they were not measured on the same items.
    pub fn of(base: &Outcome, specialist: &Outcome, merge: &Outcome) -> Result<Option<Self>> {
        let (Some(from), Some(best), Some(merged)) = (base.value, specialist.value, merge.value) else {
            return Ok(None);
        };
        if Comparison::between(base, specialist)?.verdict != Verdict::Better {
            return Ok(None);
        }
        check_paired(base, merge)?;
        let kept = |[base, specialist, merge]: [f64; 3]| (base - merge) / (base - specialist);
        let interval = bootstrap([&base.items, &specialist.items, &merge.items], kept);
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
            format!("item `{}` stands against `{}`", a.id, b.id),
        )),
        None => Ok(()),
    }
}

fn unpaired(left: &Outcome, right: &Outcome, message: String) -> EvaluateError {
    EvaluateError::Unpaired {
        suite: left.suite.clone(),
        domain: left.domain.clone(),
        left: left.subject.clone(),
        right: right.subject.clone(),
        message,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::outcome::Identity;

    fn outcome(subject: &str, unit: Unit, values: &[f64]) -> Outcome {
        let identity = Identity {
            suite: "suite",
            domain: "math",
            subject,
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
        let loss = |subject, shift: f64| {
            outcome(
                subject,
                Unit::NatsPerToken,
                &[1.0 + shift, 2.0 + shift, 1.5 + 1.1 * shift, 1.2 + shift],
            )
        };
        let compare = |shift| {
            Comparison::between(&loss("base", 0.0), &loss("other", shift))
                .unwrap()
                .verdict
        };
        assert_eq!(
            [compare(-0.1), compare(0.1), compare(0.0)],
            [Verdict::Better, Verdict::Worse, Verdict::Same]
        );

        let right = |subject, n: usize| {
            let values: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i < n))).collect();
            outcome(subject, Unit::Fraction, &values)
        };
        let compare = |n| Comparison::between(&right("base", 8), &right("other", n)).unwrap();
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
        let error = Comparison::between(&a, &b).unwrap_err().to_string();
        assert!(error.contains("item `math-1` stands against `math-7`"), "{error}");
        let short = outcome("merge", Unit::Fraction, &[1.0]);
        assert!(
            Comparison::between(&a, &short)
                .unwrap_err()
                .to_string()
                .contains("2 items against 1")
        );
    }

    #[test]
    fn gain_kept_is_the_share_of_the_specialists_gain() {
        let loss = |subject, by: f64| outcome(subject, Unit::NatsPerToken, &[1.0 - by, 2.0 - by, 1.5 - by]);
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
