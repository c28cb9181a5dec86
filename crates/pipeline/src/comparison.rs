//! Measurements of base, specialists and merge as one table.

use synapse_evaluate::Outcome;
use synapse_evaluate::table::{ComparedModel, ComparisonTable, TableRole};

use crate::PipelineError;

/// Width of tables for the terminal, in columns.
pub(crate) const WIDTH: usize = 80;

/// The name that the unchanged base has in every table.
pub(crate) const BASE: &str = "base";
/// The name that the merge has in every table.
pub(crate) const MERGE: &str = "merge";

/// Compares everything measured: `base`, specialists named after their domain, `merge`.
pub(crate) fn compare(outcomes: &[Outcome]) -> Result<ComparisonTable, PipelineError> {
    let mut models: Vec<ComparedModel> = Vec::new();
    for outcome in outcomes {
        if models.iter().any(|model| model.name == outcome.model) {
            continue;
        }
        let role = match outcome.model.as_str() {
            BASE => TableRole::Base,
            MERGE => TableRole::Merge,
            name => TableRole::Specialist {
                domain: name.to_owned(),
            },
        };
        models.push(ComparedModel::new(outcome.model.clone(), role));
    }
    Ok(ComparisonTable::new(models, outcomes)?)
}

/// A table for the terminal. Outcomes of a single model are listed without comparison.
pub fn table(outcomes: &[Outcome]) -> String {
    match compare(outcomes) {
        Ok(table) => table.render(WIDTH),
        Err(_) => outcomes.iter().map(line).collect(),
    }
}

fn line(outcome: &Outcome) -> String {
    let value = outcome
        .value
        .map_or_else(|| "not measured".to_owned(), |value| format!("{value:.4}"));
    let interval = outcome.interval.map_or_else(String::new, |interval| {
        format!(" [{:.4}, {:.4}]", interval.low, interval.high)
    });
    let note = outcome
        .note
        .as_ref()
        .map_or_else(String::new, |note| format!("  ({note})"));
    format!(
        "{:14} {:14} {value}{interval}  n={}{note}\n",
        outcome.domain, outcome.suite, outcome.n
    )
}
