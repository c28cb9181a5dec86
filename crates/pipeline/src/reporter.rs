//! The progress of a run, as events.

use synapse_recipe::Stage;
use synapse_trainer::{HeldOutReport, StepReport};

/// What progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressUnit {
    /// Rows, tensors, steps and the like.
    Items,
    /// Bytes of a download or a file.
    Bytes,
}

/// Receives progress. Every method does nothing by default.
pub trait Reporter: Sync {
    /// A stage begins.
    fn started(&self, _name: &str, _stage: Stage) {}
    /// A stage's recorded result is still valid.
    fn skipped(&self, _name: &str, _stage: Stage) {}
    /// A stage ended, with its duration and one line about its result.
    fn finished(&self, _name: &str, _stage: Stage, _seconds: f64, _summary: &str) {}
    /// Work within a stage: `done` of `total` units.
    fn progress(&self, _what: &str, _unit: ProgressUnit, _done: u64, _total: Option<u64>) {}
    /// Training begins after `done` of `total` steps.
    fn training(&self, _name: &str, _done: u64, _total: u64) {}
    /// A training step.
    fn step(&self, _report: &StepReport) {}
    /// A held-out loss is being measured during training: `done` of `total` rows.
    fn measuring(&self, _done: u64, _total: u64) {}
    /// A held-out loss during training.
    fn held_out(&self, _loss: &HeldOutReport) {}
    /// Something the user should read.
    fn note(&self, _text: &str) {}
}

/// A reporter that ignores everything, for tests and scripts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullReporter;

impl Reporter for NullReporter {}
