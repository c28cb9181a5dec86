//! What one suite found out about one model: the number, its interval, and every item behind it.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::statistics::{self, Interval};
use crate::{EvaluateError, Result};

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Mean cross-entropy per trained token, in nats.
    NatsPerToken,
    /// Share of items answered rightly, 0 to 1.
    Fraction,
}

/// One item's part in an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Stable id; the same item has the same id for every model.
    pub id: String,
    /// Mean loss of a document, or 1 for right and 0 for wrong.
    pub value: f64,
    /// Trained tokens of a document, or 1.
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

    /// Whether it is wholly right or wholly wrong.
    pub(crate) fn is_decided(&self) -> bool {
        self.weight == 1.0 && (self.value == 0.0 || self.value == 1.0)
    }
}

/// What one suite found out about one model.
///
/// The value is the weighted mean of the items. It is `None` where nothing could be measured, and `note` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The suite's id.
    pub suite: String,
    /// The domain measured, such as `math`.
    pub domain: String,
    /// The model's name.
    pub subject: String,
    /// The weighted mean of the items.
    pub value: Option<f64>,
    /// 95 % interval: Wilson's for right-or-wrong items, a seeded bootstrap over documents otherwise.
    pub interval: Option<Interval>,
    /// How many items were measured.
    pub n: usize,
    /// What the value counts.
    pub unit: Unit,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Every item, in the order measured.
    pub items: Vec<Item>,
    /// What a reader of the number has to know: rows left out, protection active, why there is no number.
    pub note: Option<String>,
    /// Suite-specific findings, such as the confusion matrix of routing.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Outcome {
    pub(crate) fn fractions(identity: &Identity<'_>, items: Vec<Item>) -> Self {
        // An item answered several times is right in part, and Wilson's interval is for coins.
        let interval = if items.iter().all(Item::is_decided) {
            let right: f64 = items.iter().map(|item| item.value).sum();
            (!items.is_empty()).then(|| statistics::wilson(right, items.len() as f64))
        } else {
            statistics::bootstrap_mean(&items)
        };
        Self::of(identity, Unit::Fraction, interval, items)
    }

    pub(crate) fn losses(identity: &Identity<'_>, items: Vec<Item>) -> Self {
        let interval = statistics::bootstrap_mean(&items);
        Self::of(identity, Unit::NatsPerToken, interval, items)
    }

    fn of(identity: &Identity<'_>, unit: Unit, interval: Option<Interval>, items: Vec<Item>) -> Self {
        Self {
            suite: identity.suite.into(),
            domain: identity.domain.into(),
            subject: identity.subject.into(),
            value: statistics::weighted_mean(&items),
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

    /// Adds to what a reader has to know.
    pub(crate) fn add_note(&mut self, note: &str) {
        self.note = Some(match self.note.take() {
            Some(before) => format!("{before}; {note}"),
            None => note.to_owned(),
        });
    }
}

/// Whose outcome it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) suite: &'a str,
    pub(crate) domain: &'a str,
    pub(crate) subject: &'a str,
}

/// An outcome with the log of its items: prompts, answers and how each was judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The numbers.
    pub outcome: Outcome,
    /// One JSON object an item, in the order of `outcome.items`.
    pub records: Vec<Map<String, Value>>,
}

impl Evaluation {
    /// Writes the records as `DOMAIN.SUITE.SUBJECT.jsonl` into `folder` and returns the file's path.
    ///
    /// # Errors
    /// [`EvaluateError::File`] when the folder cannot be written to.
    pub fn write_log(&self, folder: &Path) -> Result<PathBuf> {
        let Outcome {
            suite, domain, subject, ..
        } = &self.outcome;
        let path = folder.join(format!(
            "{}.{}.{}.jsonl",
            file_part(domain),
            file_part(suite),
            file_part(subject)
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
