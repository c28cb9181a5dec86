//! The result of one suite on one model: the number, its interval, and every item behind it.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::statistics::{self, Interval, Weighted};
use crate::{EvaluateError, Result};

/// The unit of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Mean cross-entropy per target token, in nats.
    NatsPerToken,
    /// Share of correct answers, 0 to 1.
    Fraction,
}

/// One item's part in an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Stable id; the same item has the same id for every model.
    pub id: String,
    /// Mean loss of a document, or 1 for right and 0 for wrong.
    pub value: f64,
    /// Target tokens of a document, or 1.
    pub weight: f64,
}

impl Item {
    /// One right or wrong answer.
    pub(crate) fn judged(id: impl Into<String>, right: bool) -> Self {
        Self {
            id: id.into(),
            value: f64::from(u8::from(right)),
            weight: 1.0,
        }
    }

    /// Its value and weight, for the statistics.
    #[must_use]
    pub fn weighted(&self) -> Weighted {
        Weighted {
            value: self.value,
            weight: self.weight,
        }
    }

    /// Whether it is entirely right or entirely wrong.
    pub(crate) fn is_binary(&self) -> bool {
        self.weight == 1.0 && (self.value == 0.0 || self.value == 1.0)
    }
}

/// The items' values and weights, in their order.
pub(crate) fn weighted(items: &[Item]) -> Vec<Weighted> {
    items.iter().map(Item::weighted).collect()
}

/// The result of one suite on one model.
///
/// The value is the weighted mean of the items. It is `None` if nothing could be measured; `note` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The suite's id.
    pub suite: String,
    /// The domain measured, such as `math`.
    pub domain: String,
    /// The model's name.
    #[serde(rename = "subject")]
    pub model: String,
    /// The weighted mean of the items.
    pub value: Option<f64>,
    /// 95 % interval: Wilson's for right-or-wrong items, a seeded bootstrap over documents otherwise.
    pub interval: Option<Interval>,
    /// How many items were measured.
    pub n: usize,
    /// The value's unit.
    pub unit: Unit,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Every item, in the order measured.
    pub items: Vec<Item>,
    /// Remarks on the number: rows left out, the active sandbox, why there is no number.
    pub note: Option<String>,
    /// Suite-specific results, such as the confusion matrix of routing.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Outcome {
    pub(crate) fn fractions(identity: &Identity<'_>, items: Vec<Item>) -> Self {
        // Wilson's interval is for binary outcomes; an item answered several times can be partly right.
        let interval = if items.iter().all(Item::is_binary) {
            let right: f64 = items.iter().map(|item| item.value).sum();
            (!items.is_empty()).then(|| statistics::wilson(right, items.len() as f64))
        } else {
            statistics::bootstrap_mean(&weighted(&items))
        };
        Self::of(identity, Unit::Fraction, interval, items)
    }

    pub(crate) fn losses(identity: &Identity<'_>, items: Vec<Item>) -> Self {
        let interval = statistics::bootstrap_mean(&weighted(&items));
        Self::of(identity, Unit::NatsPerToken, interval, items)
    }

    fn of(identity: &Identity<'_>, unit: Unit, interval: Option<Interval>, items: Vec<Item>) -> Self {
        Self {
            suite: identity.suite.into(),
            domain: identity.domain.into(),
            model: identity.model.into(),
            value: statistics::weighted_mean(&weighted(&items)),
            interval,
            n: items.len(),
            unit,
            higher_is_better: unit == Unit::Fraction,
            items,
            note: None,
            details: Map::new(),
        }
    }

    /// An outcome without a number, saying why.
    pub(crate) fn unmeasured(identity: &Identity<'_>, unit: Unit, why: impl Into<String>) -> Self {
        Self {
            note: Some(why.into()),
            ..Self::of(identity, unit, None, Vec::new())
        }
    }

    /// Appends a remark.
    pub(crate) fn add_note(&mut self, note: &str) {
        self.note = Some(match self.note.take() {
            Some(before) => format!("{before}; {note}"),
            None => note.to_owned(),
        });
    }
}

/// The suite, domain and model of an outcome.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) suite: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) model: &'a str,
}

/// An outcome with the log of its items: prompts, answers and how each was scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The numbers.
    pub outcome: Outcome,
    /// One JSON object per item, in the order of `outcome.items`.
    pub records: Vec<Map<String, Value>>,
}

impl Evaluation {
    /// Writes the records as `DOMAIN.SUITE.SUBJECT.jsonl` into `folder` and returns the file's path.
    ///
    /// # Errors
    /// [`EvaluateError::File`] when the folder cannot be written to.
    pub fn write_log(&self, folder: &Path) -> Result<PathBuf> {
        let Outcome {
            suite, domain, model, ..
        } = &self.outcome;
        let path = folder.join(format!(
            "{}.{}.{}.jsonl",
            file_part(domain),
            file_part(suite),
            file_part(model)
        ));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            for record in &self.records {
                serde_json::to_writer(&mut file, record)?;
                file.write_all(b"\n")?;
            }
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| EvaluateError::write(&path, source))?;
        Ok(path)
    }
}

fn file_part(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_file_calls_the_model_subject() {
        let identity = Identity {
            suite: "gsm8k",
            domain: "math",
            model: "base",
        };
        let outcome = Outcome::fractions(&identity, vec![Item::judged("gsm8k-0", true)]);
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(json["subject"], "base");
        assert_eq!(serde_json::from_value::<Outcome>(json).unwrap(), outcome);
    }
}
