//! The gate: a merge that is worse than the base on a domain is refused, or published with a note that says so.

use serde::{Deserialize, Serialize};

use crate::paired::Verdict;
use crate::table::{ComparisonTable, TableColumn, TableRole};
use crate::{EvaluateError, Result};

/// The gate's criterion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateRule {
    /// The suite that decides, usually `held-out-loss`.
    pub on: String,
    /// Maximum regression of a domain, relative to the base's value: 0.02 is 2 %.
    pub max_regress: f64,
    /// What happens if a domain regresses more.
    pub action: RegressionAction,
}

/// What happens to a merge with a regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegressionAction {
    /// It is not published.
    Refuse,
    /// It is published, and its model card states the regression.
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
    /// The regression relative to the base: 0.05 is 5 %.
    pub relative: f64,
}

/// The gate's decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "lowercase")]
pub enum GateDecision {
    /// No domain lost more than allowed.
    Pass {
        /// What was checked, in words.
        message: String,
    },
    /// Published, with this message in the model card.
    Stamp {
        /// Domains and figures, in words.
        message: String,
        /// The regressions as data.
        regressions: Vec<Regression>,
    },
    /// Not published.
    Refuse {
        /// Domains and figures, in words, and the remedy.
        message: String,
        /// The regressions as data.
        regressions: Vec<Regression>,
    },
}

impl GateDecision {
    /// Decides about the merge of a comparison.
    ///
    /// A domain has regressed if the merge is worse than the base by more than `max_regress` of the base's value and
    /// the difference is significant: its paired 95 % interval excludes zero (for binary items, McNemar's p is at most
    /// 0.05).
    ///
    /// # Errors
    /// [`EvaluateError::Incomplete`] when there is no merge, or a domain was not measured on base and merge: without
    /// measurements nothing is published.
    pub fn judge(table: &ComparisonTable, rule: &GateRule) -> Result<Self> {
        let model = |role: fn(&TableRole) -> bool| table.models.iter().position(|model| role(&model.role));
        let (Some(base), Some(merge)) = (
            model(|role| *role == TableRole::Base),
            model(|role| *role == TableRole::Merge),
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
            let (Some(before), Some(after), Some(pairwise)) = (
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
            if pairwise.verdict == Verdict::Worse && worse_by > rule.max_regress * before.abs() {
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
            RegressionAction::Stamp => Self::Stamp { message, regressions },
            RegressionAction::Refuse => Self::Refuse {
                message: format!(
                    "{message}: nothing is published; lower merge.lambda, or the other specialists' weights under merge.weights, or set gate.action: stamp to publish anyway"
                ),
                regressions,
            },
        })
    }

    /// The decision in words.
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
