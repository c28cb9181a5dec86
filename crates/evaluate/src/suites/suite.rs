//! What a suite is, how far it goes, and running several of them.

use serde_json::{Map, Value};

use crate::Result;
use crate::model::EvalModel;
use crate::outcome::{Evaluation, Identity, Outcome, Unit};

/// Documents or questions handed to a model at once: larger than a batch, small enough for a smooth progress bar.
pub(super) const CHUNK: usize = 64;

/// Limits and sampling of one evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalOptions {
    /// Measure only the first `limit` items of each suite; held-out loss always takes every document.
    pub limit: Option<usize>,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Answers to each programming task.
    pub samples: usize,
    /// Temperature of those answers; every other suite decodes greedily.
    pub temperature: f32,
    /// Seeds those answers; the nth has this seed plus n.
    pub seed: u64,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            limit: None,
            max_new_tokens: 256,
            samples: 1,
            temperature: 0.0,
            seed: 0,
        }
    }
}

impl EvalOptions {
    pub(super) fn limited<'a, T>(&self, items: &'a [T]) -> &'a [T] {
        &items[..self.limit.unwrap_or(items.len()).min(items.len())]
    }
}

/// Receives the number of finished items and the number of all items.
pub type SuiteProgress<'a> = &'a dyn Fn(usize, usize);

/// One kind of question about one domain. A suite holds its rows; running it twice gives identical results.
pub trait Suite: Send + Sync {
    /// Its id in recipes.
    fn id(&self) -> &'static str;

    /// The domain it measures.
    fn domain(&self) -> &str;

    /// Measures one model.
    ///
    /// # Errors
    /// When the model fails or an item cannot be asked as it is; a wrong answer is not an error.
    fn run(
        &self,
        model: &mut dyn EvalModel,
        options: &EvalOptions,
        progress: SuiteProgress<'_>,
    ) -> Result<Vec<Evaluation>>;
}

/// Measures one model with several suites, in order; `progress` receives the suite, finished items and all items.
///
/// # Errors
/// The error of the first suite that fails.
pub fn evaluate(
    model: &mut dyn EvalModel,
    suites: &[Box<dyn Suite>],
    options: &EvalOptions,
    progress: &dyn Fn(&dyn Suite, usize, usize),
) -> Result<Vec<Evaluation>> {
    let mut found = Vec::new();
    for suite in suites {
        found.extend(suite.run(model, options, &|done, of| {
            progress(suite.as_ref(), done, of);
        })?);
    }
    Ok(found)
}

/// An evaluation without a number; its note says why.
pub(super) fn unmeasured(suite: &dyn Suite, model: &dyn EvalModel, unit: Unit, why: &str) -> Evaluation {
    let identity = Identity {
        suite: suite.id(),
        domain: suite.domain(),
        model: model.name(),
    };
    Evaluation {
        outcome: Outcome::unmeasured(&identity, unit, why),
        records: Vec::new(),
    }
}

/// A log record from its fields, in the order given.
pub(super) fn record<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
