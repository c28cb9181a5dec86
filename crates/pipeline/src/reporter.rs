//! What a run tells whoever watches it.

use synapse_recipe::Stage;
use synapse_trainer::{HeldOutReport, StepReport};

/// Receives progress. Every method has a default that says nothing.
pub trait Reporter: Sync {
    /// A stage begins.
    fn started(&self, _name: &str, _stage: Stage) {}
    /// A stage's earlier result still holds.
    fn skipped(&self, _name: &str, _stage: Stage) {}
    /// A stage ended after so many seconds, with one line about its result.
    fn finished(&self, _name: &str, _stage: Stage, _seconds: f64, _summary: &str) {}
    /// Work within a stage: `done` of `total` of what `what` names.
    fn progress(&self, _what: &str, _done: u64, _total: Option<u64>) {}
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

/// A reporter for tests and scripts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {}
