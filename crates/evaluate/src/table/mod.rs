//! The comparison table: base, specialists and merge against every domain.
//!
//! One table of computed cells is rendered for the terminal, for the model card and as JSON, so that all of them show the
//! same numbers.

mod markdown;
mod terminal;

use serde::{Deserialize, Serialize};

use crate::outcome::{Outcome, Unit};
use crate::paired::{GainKept, PairedComparison, Verdict};
use crate::statistics::Interval;
use crate::{EvaluateError, Result};

/// A model's role in the comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum TableRole {
    /// The reference of all comparisons.
    Base,
    /// Trained on one domain.
    Specialist {
        /// Its own domain.
        domain: String,
    },
    /// The specialists merged.
    Merge,
    /// Any other model that is compared with the base.
    Other,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedModel {
    /// Its name in outcomes.
    pub name: String,
    /// Its role.
    #[serde(flatten)]
    pub role: TableRole,
}

impl ComparedModel {
    /// A named row.
    pub fn new(name: impl Into<String>, role: TableRole) -> Self {
        Self {
            name: name.into(),
            role,
        }
    }
}

/// One model's number in one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The model's name.
    #[serde(rename = "subject")]
    pub model: String,
    /// The number; `None` where it was not measured.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<Interval>,
    /// Against the base on the same items; `None` for the base itself.
    pub versus_base: Option<PairedComparison>,
    /// Whether this is a specialist on its own domain.
    pub own_domain: bool,
}

impl Cell {
    /// `✓` better and `✗` worse than the base beyond the interval, else nothing.
    #[must_use]
    pub fn mark(&self) -> &'static str {
        match self.versus_base.map(|comparison| comparison.verdict) {
            Some(Verdict::Better) => "✓",
            Some(Verdict::Worse) => "✗",
            Some(Verdict::Same) | None => "",
        }
    }
}

/// One suite on one domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableColumn {
    /// The domain.
    pub domain: String,
    /// The suite's id.
    pub suite: String,
    /// The numbers' unit.
    pub unit: Unit,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Items measured.
    pub n: usize,
    /// One cell per model, in the table's order.
    pub cells: Vec<Cell>,
    /// The share of the specialist's gain that the merge keeps; only for losses.
    pub gain_kept: Option<GainKept>,
    /// Remarks on the numbers, without repetitions.
    pub notes: Vec<String>,
}

/// Base, specialists and merge against every domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonTable {
    /// The models, one row each.
    #[serde(rename = "subjects")]
    pub models: Vec<ComparedModel>,
    /// Losses first, then scores, each in the order first measured.
    pub columns: Vec<TableColumn>,
}

impl ComparisonTable {
    /// Compares everything measured with the base.
    ///
    /// # Errors
    /// [`EvaluateError::Incomplete`] when there is not exactly one base or two rows have one name,
    /// [`EvaluateError::Unpaired`] when two models were measured on different items.
    pub fn new(models: Vec<ComparedModel>, outcomes: &[Outcome]) -> Result<Self> {
        let bases = models.iter().filter(|model| model.role == TableRole::Base).count();
        if bases != 1 {
            return Err(EvaluateError::Incomplete(format!(
                "a comparison needs exactly one base, found {bases}"
            )));
        }
        for (index, model) in models.iter().enumerate() {
            if models[..index].iter().any(|other| other.name == model.name) {
                return Err(EvaluateError::Incomplete(format!(
                    "two models are called `{}`",
                    model.name
                )));
            }
        }
        let mut keys: Vec<(&str, &str)> = Vec::new();
        for outcome in outcomes {
            let key = (outcome.suite.as_str(), outcome.domain.as_str());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut columns = keys
            .into_iter()
            .map(|(suite, domain)| {
                let here: Vec<&Outcome> = outcomes
                    .iter()
                    .filter(|outcome| outcome.suite == suite && outcome.domain == domain)
                    .collect();
                column(&models, &here)
            })
            .collect::<Result<Vec<_>>>()?;
        columns.sort_by_key(|column| column.unit != Unit::NatsPerToken);
        Ok(Self { models, columns })
    }

    /// The cell of one model in one column.
    #[must_use]
    pub fn cell(&self, suite: &str, domain: &str, model: &str) -> Option<&Cell> {
        let column = self
            .columns
            .iter()
            .find(|column| column.suite == suite && column.domain == domain)?;
        column.cells.iter().find(|cell| cell.model == model)
    }

    /// The share of the gain on `domain` that the merge keeps, in held-out loss.
    #[must_use]
    pub fn gain_kept(&self, domain: &str) -> Option<GainKept> {
        self.columns
            .iter()
            .filter(|column| column.domain == domain)
            .find_map(|column| column.gain_kept)
    }

    /// Columns of one unit, for one block of a rendering; empty blocks are left out.
    pub(crate) fn blocks(&self) -> Vec<Vec<&TableColumn>> {
        let of = |unit| {
            self.columns
                .iter()
                .filter(|column| column.unit == unit)
                .collect::<Vec<_>>()
        };
        [of(Unit::NatsPerToken), of(Unit::Fraction)]
            .into_iter()
            .filter(|block| !block.is_empty())
            .collect()
    }

    /// Every note with the columns it belongs to, such as `math exact-match: 2 of 80 answers cut off`.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<(String, Vec<String>)> = Vec::new();
        for column in &self.columns {
            for note in &column.notes {
                let place = format!("{} {}", column.domain, column.suite);
                match notes.iter_mut().find(|(text, _)| text == note) {
                    Some((_, places)) => places.push(place),
                    None => notes.push((note.clone(), vec![place])),
                }
            }
        }
        notes
            .into_iter()
            .map(|(note, places)| format!("{}: {note}", places.join(", ")))
            .collect()
    }
}

fn column(models: &[ComparedModel], outcomes: &[&Outcome]) -> Result<TableColumn> {
    let of = |name: &str| outcomes.iter().copied().find(|outcome| outcome.model == name);
    let first = outcomes[0];
    let named = |role: fn(&TableRole) -> bool| models.iter().find(|s| role(&s.role)).and_then(|s| of(&s.name));
    let base = named(|role| *role == TableRole::Base);
    let merge = named(|role| *role == TableRole::Merge);
    let owner =
        |model: &ComparedModel| matches!(&model.role, TableRole::Specialist { domain } if *domain == first.domain);
    let mut cells = Vec::with_capacity(models.len());
    for model in models {
        let outcome = of(&model.name);
        let versus_base = match (base, outcome) {
            (Some(base), Some(outcome))
                if model.role != TableRole::Base && base.value.is_some() && outcome.value.is_some() =>
            {
                Some(PairedComparison::between(base, outcome)?)
            }
            _ => None,
        };
        cells.push(Cell {
            model: model.name.clone(),
            value: outcome.and_then(|outcome| outcome.value),
            interval: outcome.and_then(|outcome| outcome.interval),
            versus_base,
            own_domain: owner(model),
        });
    }
    let specialist = models
        .iter()
        .find(|model| owner(model))
        .and_then(|model| of(&model.name));
    let gain_kept = match (first.unit, base, specialist, merge) {
        (Unit::NatsPerToken, Some(base), Some(specialist), Some(merge)) => GainKept::of(base, specialist, merge)?,
        _ => None,
    };
    let mut notes: Vec<String> = Vec::new();
    for outcome in outcomes {
        // A note about one model's answers names it; one about the rows or the machine is the same for all.
        let shared = outcomes.len() > 1 && outcomes.iter().all(|other| other.note == outcome.note);
        let text = outcome.note.as_ref().map(|note| {
            if shared {
                note.clone()
            } else {
                format!("{}: {note}", outcome.model)
            }
        });
        notes.extend(text.filter(|text| !notes.contains(text)));
    }
    let n = outcomes.iter().map(|outcome| outcome.n).max().unwrap_or(0);
    Ok(TableColumn {
        domain: first.domain.clone(),
        suite: first.suite.clone(),
        unit: first.unit,
        higher_is_better: first.higher_is_better,
        n,
        cells,
        gain_kept,
        notes,
    })
}

/// `1.081 ±.021 ✓`, `62.5% ±10.1`, or `–` where nothing was measured.
pub(crate) fn cell_text(cell: &Cell, unit: Unit) -> String {
    let Some(value) = cell.value else {
        return "–".into();
    };
    let half = cell.interval.map(|interval| interval.half_width());
    let (value, half) = match unit {
        Unit::NatsPerToken => (format!("{value:.3}"), half.map(|half| format!("{half:.3}"))),
        Unit::Fraction => (
            format!("{:.1}%", 100.0 * value),
            half.map(|half| format!("{:.1}", 100.0 * half)),
        ),
    };
    let half = half
        .map(|half| format!(" ±{}", half.strip_prefix('0').unwrap_or(&half)))
        .unwrap_or_default();
    let mark = cell.mark();
    if mark.is_empty() {
        format!("{value}{half}")
    } else {
        format!("{value}{half} {mark}")
    }
}

/// `83%`, or `–` where there was no gain to keep.
pub(crate) fn kept_text(column: &TableColumn) -> String {
    column
        .gain_kept
        .map_or_else(|| "–".into(), |kept| format!("{:.0}%", 100.0 * kept.fraction))
}

/// The heading of a block.
pub(crate) fn block_title(unit: Unit) -> &'static str {
    match unit {
        Unit::NatsPerToken => "Held-out loss, nats per trained token (lower is better)",
        Unit::Fraction => "Task scores, share of right answers (higher is better)",
    }
}

/// The legend of the marks.
pub(crate) const LEGEND: &str =
    "✓ better, ✗ worse than the base beyond chance (paired, 95 %). ± half of the 95 % interval.";

#[cfg(test)]
pub(crate) mod tests;
