//! The gate: a merge that costs a domain is refused, or published with a stamp that says so.

use serde::{Deserialize, Serialize};

use crate::comparison::Verdict;
use crate::table::{ComparisonTable, Role, TableColumn};
use crate::{EvaluateError, Result};

/// What the merge is held to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateRule {
    /// The suite that decides, usually `held-out-loss`.
    pub on: String,
    /// How much worse than the base a domain may get, relative to the base's value: 0.02 is 2 %.
    pub max_regress: f64,
    /// What happens then.
    pub action: GateAction,
}

/// What happens to a merge that costs a domain too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateAction {
    /// It is not published.
    Refuse,
    /// It is published and its card says what it lost.
    Stamp,
}

/// One domain that got worse than allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// The domain.
    pub domain: String,
    /// The base's value.
    pub base: f64,
    /// The merge's value.
    pub merge: f64,
    /// How much worse, relative to the base: 0.05 is 5 %.
    pub relative: f64,
}

/// What the gate decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "lowercase")]
pub enum GateDecision {
    /// No domain lost more than allowed.
    Pass {
        /// What was checked, in words.
        message: String,
    },
    /// Published, with this said in its card.
    Stamp {
        /// Domains and figures, in words.
        message: String,
        /// The same as data.
        regressions: Vec<Regression>,
    },
    /// Not published.
    Refuse {
        /// Domains and figures, in words, and the way out.
        message: String,
        /// The same as data.
        regressions: Vec<Regression>,
    },
}

impl GateDecision {
    /// Judges the merge of a comparison.
    ///
    /// A domain counts as lost when the merge is worse than the base by more than `max_regress` of the base's value,
    /// and the difference is beyond chance: its paired 95 % interval leaves out zero (for right-or-wrong items,
    /// McNemar's p is at most 0.05).
    ///
    /// # Errors
    /// [`EvaluateError::Incomplete`] when there is no merge, or a domain was not measured on base and merge: a gate
    /// that cannot look does not open.
    pub fn judge(table: &ComparisonTable, rule: &GateRule) -> Result<Self> {
        let subject = |role: fn(&Role) -> bool| table.subjects.iter().position(|subject| role(&subject.role));
        let (Some(base), Some(merge)) = (
            subject(|role| *role == Role::Base),
            subject(|role| *role == Role::Merge),
        ) else {
            return Err(EvaluateError::Incomplete(
                "the gate needs a base and a merge to compare".into(),
            ));
        };
        let columns: Vec<&TableColumn> = table.columns.iter().filter(|column| column.suite == rule.on).collect();
        if columns.is_empty() {
            return Err(EvaluateError::Incomplete(format!(
                "the gate decides on `{}`, which was not measured; add it to the suites",
                rule.on
            )));
        }
        let mut regressions = Vec::new();
        for column in &columns {
            let (Some(before), Some(after), Some(versus)) = (
                column.cells[base].value,
                column.cells[merge].value,
                column.cells[merge].versus_base,
            ) else {
                return Err(EvaluateError::Incomplete(format!(
                    "the gate decides on `{}`, which was not measured for {} on base and merge",
                    rule.on, column.domain
                )));
            };
            let worse_by = if column.higher_is_better {
                before - after
            } else {
                after - before
            };
            if versus.verdict == Verdict::Worse && worse_by > rule.max_regress * before.abs() {
                let relative = worse_by / before.abs();
                regressions.push(Regression {
                    domain: column.domain.clone(),
                    base: before,
                    merge: after,
                    relative,
                });
            }
        }
        let allowed = 100.0 * rule.max_regress;
        if regressions.is_empty() {
            let domains: Vec<&str> = columns.iter().map(|column| column.domain.as_str()).collect();
            let message = format!("{} within {allowed} % of the base on {}", rule.on, domains.join(", "));
            return Ok(Self::Pass { message });
        }
        let figures: Vec<String> = regressions
            .iter()
            .map(
                |Regression {
                     domain,
                     base,
                     merge,
                     relative,
                 }| {
                    format!(
                        "{domain} went from {base:.4} to {merge:.4} ({:.1} % worse)",
                        100.0 * relative
                    )
                },
            )
            .collect();
        let message = format!("{} on {}; {allowed} % is allowed", rule.on, figures.join(", "));
        Ok(match rule.action {
            GateAction::Stamp => Self::Stamp { message, regressions },
            GateAction::Refuse => Self::Refuse {
                message: format!(
                    "{message}: nothing is published; lower the merge's lambda or that domain's rivals' weights, or set gate.action: stamp"
                ),
                regressions,
            },
        })
    }

    /// What was decided, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Pass { message } | Self::Stamp { message, .. } | Self::Refuse { message, .. } => message,
        }
    }

    /// Whether the merge may be published, stamped or not.
    #[must_use]
    pub fn publishes(&self) -> bool {
        !matches!(self, Self::Refuse { .. })
    }
}
