//! Several models on the same items, each compared with the first: the output of `compare`.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Unit};
use crate::paired::{PairedComparison, Verdict};
use crate::statistics::Interval;
use crate::{EvaluateError, Result};

/// One suite on one domain, answered by every model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairwiseComparison {
    /// The domain.
    pub domain: String,
    /// The suite's id.
    pub suite: String,
    /// The numbers' unit.
    pub unit: Unit,
    /// Items measured.
    pub n: usize,
    /// The models in the order given.
    pub rows: Vec<PairwiseRow>,
}

/// One model on one suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairwiseRow {
    /// The model.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// 95 % interval of the value.
    pub interval: Option<Interval>,
    /// Against the first model; `None` for the first itself.
    pub versus_first: Option<PairedComparison>,
}

impl PairwiseComparison {
    /// Pairs the suites that all models were measured on, in the order of the first.
    ///
    /// # Errors
    /// [`EvaluateError::Incomplete`] with fewer than two models or nothing in common, [`EvaluateError::Unpaired`] when two
    /// were measured on different items.
    pub fn of(models: &[(String, Vec<Outcome>)]) -> Result<Vec<Self>> {
        let [(first, measured), others @ ..] = models else {
            return Err(EvaluateError::Incomplete("there are no models to compare".into()));
        };
        if others.is_empty() {
            return Err(EvaluateError::Incomplete(format!(
                "`{first}` is the only model; a comparison needs at least two"
            )));
        }
        let mut found = Vec::new();
        for base in measured {
            let same = |outcome: &&Outcome| outcome.suite == base.suite && outcome.domain == base.domain;
            let paired: Option<Vec<(&str, &Outcome)>> = others
                .iter()
                .map(|(name, outcomes)| Some((name.as_str(), outcomes.iter().find(same)?)))
                .collect();
            let (Some(paired), Some(value)) = (paired, base.value) else {
                continue;
            };
            let mut rows = vec![PairwiseRow {
                name: first.clone(),
                value,
                interval: base.interval,
                versus_first: None,
            }];
            for (name, outcome) in paired {
                let compared = PairedComparison::between(base, outcome)?;
                rows.push(PairwiseRow {
                    name: name.to_owned(),
                    value: value + compared.difference,
                    interval: outcome.interval,
                    versus_first: Some(compared),
                });
            }
            found.push(Self {
                domain: base.domain.clone(),
                suite: base.suite.clone(),
                unit: base.unit,
                n: base.n,
                rows,
            });
        }
        if found.is_empty() {
            let lists: Vec<String> = models
                .iter()
                .map(|(name, outcomes)| measured_by(name, outcomes))
                .collect();
            return Err(EvaluateError::Incomplete(format!(
                "the models have no suite in common: {}",
                lists.join("; ")
            )));
        }
        Ok(found)
    }

    /// The block of this suite for a terminal.
    #[must_use]
    pub fn render(&self) -> String {
        let what = match self.unit {
            Unit::NatsPerToken => "documents, nats per trained token (lower is better)",
            Unit::Fraction => "items, share of right answers (higher is better)",
        };
        let mut text = format!("{} · {}: {} {what}\n", self.domain, self.suite, self.n);
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        for row in &self.rows {
            let number = |value: f64, signed: bool| number(self.unit, value, signed);
            let interval = |interval: Option<Interval>, signed: bool| {
                interval.map_or_else(String::new, |interval| {
                    format!(" [{}, {}]", number(interval.low, signed), number(interval.high, signed))
                })
            };
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "  {:width$}  {}{}",
                row.name,
                number(row.value, false),
                interval(row.interval, false)
            );
            if let Some(pairwise) = &row.versus_first {
                let mark = match pairwise.verdict {
                    Verdict::Better => "✓ ",
                    Verdict::Worse => "✗ ",
                    Verdict::Same => "",
                };
                let _ = write!(
                    text,
                    "  {mark}{}{}",
                    number(pairwise.difference, true),
                    interval(pairwise.interval, true)
                );
                if let (Some([lost, won]), Some(p)) = (pairwise.discordant, pairwise.p_value) {
                    let _ = write!(text, "  won {won}, lost {lost}, p {}", p_text(p));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// The legend of [`PairwiseComparison::render`].
pub const PAIRWISE_LEGEND: &str = "Each model against the first on the same items. Brackets hold 95 % intervals: Wilson's of a share, a bootstrap\nover documents of a loss, a paired bootstrap of a difference. p is McNemar's exact test on the items that only\none of the two got right. ✓ better, ✗ worse beyond chance; with many suites, one in twenty is so by chance.\n";

fn measured_by(name: &str, outcomes: &[Outcome]) -> String {
    let what: Vec<String> = outcomes
        .iter()
        .map(|outcome| format!("{} {}", outcome.domain, outcome.suite))
        .collect();
    format!("`{name}` has {}", what.join(", "))
}

fn number(unit: Unit, value: f64, signed: bool) -> String {
    match (unit, signed) {
        (Unit::NatsPerToken, false) => format!("{value:.4}"),
        (Unit::NatsPerToken, true) => format!("{value:+.4}"),
        (Unit::Fraction, false) => format!("{:.1}%", 100.0 * value),
        (Unit::Fraction, true) => format!("{:+.1}", 100.0 * value),
    }
}

fn p_text(p: f64) -> String {
    if p < 0.0001 {
        "< 0.0001".into()
    } else {
        format!("{p:.4}")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::outcome::{Identity, Item};

    fn identity<'a>(suite: &'a str, model: &'a str) -> Identity<'a> {
        Identity {
            suite,
            domain: "math",
            model,
        }
    }

    fn answers(model: &str, right: impl Fn(usize) -> bool) -> Outcome {
        let items = (0..40).map(|index| Item::judged(format!("gsm8k-{index}"), right(index)));
        Outcome::fractions(&identity("gsm8k", model), items.collect())
    }

    fn losses(model: &str, shift: f64) -> Outcome {
        let item = |index: u32| Item {
            id: format!("math-{index}"),
            value: 1.0 + 0.03 * f64::from(index % 7) + shift * (1.0 + 0.1 * f64::from(index % 3)),
            weight: 10.0 + f64::from(index % 5),
        };
        Outcome::losses(&identity("held-out-loss", model), (0..30).map(item).collect())
    }

    #[test]
    fn three_models_on_two_suites() {
        let models = [
            (
                "base".to_owned(),
                vec![losses("base", 0.0), answers("base", |i| i % 4 == 0)],
            ),
            (
                "math".to_owned(),
                vec![answers("math", |i| i % 4 != 1), losses("math", -0.2)],
            ),
            (
                "merge".to_owned(),
                vec![losses("merge", 0.05), answers("merge", |i| i % 4 == 0 || i == 1)],
            ),
        ];
        let text: String = PairwiseComparison::of(&models)
            .unwrap()
            .iter()
            .map(PairwiseComparison::render)
            .collect();
        insta::assert_snapshot!(format!("{text}\n{PAIRWISE_LEGEND}"));
    }

    #[test]
    fn what_cannot_be_paired_is_refused_in_words() {
        let of = |models: Vec<(&str, Vec<Outcome>)>| {
            let models: Vec<_> = models
                .into_iter()
                .map(|(name, outcomes)| (name.to_owned(), outcomes))
                .collect();
            PairwiseComparison::of(&models).unwrap_err().to_string()
        };
        let base = || answers("base", |i| i > 20);
        assert_eq!(
            of(vec![("base", vec![base()])]),
            "`base` is the only model; a comparison needs at least two"
        );
        assert_eq!(
            of(vec![("base", vec![base()]), ("merge", vec![losses("merge", 0.0)])]),
            "the models have no suite in common: `base` has math gsm8k; `merge` has math held-out-loss"
        );
        let mut shorter = base();
        shorter.items.pop();
        assert!(of(vec![("base", vec![base()]), ("merge", vec![shorter])]).contains("40 items against 39"));
    }
}
