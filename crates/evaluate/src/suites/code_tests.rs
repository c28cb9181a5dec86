//! The tasks of `code-tests`: small Python functions with asserts, written for this crate.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::datasets::{CodeProblem, Preamble};
use crate::rows::parse_jsonl;

/// One programming task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeTask {
    /// Stable id.
    pub id: String,
    /// What the model is asked; names the function and its parameters.
    pub prompt: String,
    /// The function the tests call.
    pub entry_point: String,
    /// `assert` statements that call it.
    pub tests: Vec<String>,
    /// A solution that passes every test.
    pub canonical: String,
    /// A plausible solution that fails at least one.
    pub wrong: String,
}

impl CodeTask {
    /// The tasks that come with this crate, written for it.
    ///
    /// # Errors
    /// [`crate::EvaluateError::JsonLine`] if a bundled line does not parse, which a test rules out.
    pub fn bundled() -> Result<Vec<Self>> {
        parse_jsonl(
            include_str!("../../data/code-tests.jsonl"),
            Path::new("code-tests.jsonl"),
        )
    }

    /// The task in the form the suite runs.
    #[must_use]
    pub fn program(self) -> CodeProblem {
        CodeProblem {
            id: self.id,
            question: self.prompt.clone(),
            prompt: self.prompt,
            stop: &[],
            preamble: Preamble::default(),
            entry_point: self.entry_point,
            tests: self.tests,
            canonical: self.canonical,
        }
    }
}
