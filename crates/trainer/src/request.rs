//! What a training run is asked for, what it tells while it works, and what it ends with.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_data::PackedDataset;
use synapse_recipe::{Method, Quantization, TrainPlan};

use crate::{
    Device,
    metrics::{HeldOutLoss, StepReport},
};

/// What is trained on top of.
#[derive(Debug)]
pub enum TrainingBase<'a> {
    /// A model folder; full training continues from its weights.
    Folder(&'a ModelFolder),
    /// A configuration whose weights are drawn from the seed.
    Fresh(&'a ModelConfig),
}

impl TrainingBase<'_> {
    pub(crate) fn config(&self) -> &ModelConfig {
        match self {
            Self::Folder(folder) => folder.config(),
            Self::Fresh(config) => config,
        }
    }
}

/// Everything a training run needs.
#[derive(Debug)]
pub struct TrainRequest<'a> {
    /// The loop's settings.
    pub plan: &'a TrainPlan,
    /// LoRA or full.
    pub method: &'a Method,
    /// Storage of frozen weights.
    pub quantization: Quantization,
    /// What computes.
    pub device: Device,
    /// The base.
    pub base: TrainingBase<'a>,
    /// The base's name in adapter_config.json, and its commit.
    pub base_name: &'a str,
    /// Commit of a hub base.
    pub base_revision: Option<&'a str>,
    /// Rows to train on.
    pub rows: &'a PackedDataset,
    /// Rows to measure on.
    pub held_out: &'a PackedDataset,
    /// Steps between held-out losses; 0 measures only at the end.
    pub evaluate_every: u64,
    /// Where metrics and checkpoints live.
    pub run: &'a Path,
    /// Names everything that determines the run's numbers; a checkpoint with another one is not resumed.
    pub fingerprint: &'a str,
    /// An existing staging folder that receives the artifact.
    pub out: &'a Path,
    /// Set to stop after the current step.
    pub stop: &'a AtomicBool,
}

/// Told about progress.
pub trait Observer {
    /// The run begins (again) after `done` of `total` steps.
    fn start(&mut self, done: u64, total: u64);
    /// A step is done.
    fn step(&mut self, report: &StepReport);
    /// A held-out loss is being measured: `done` of `total` rows.
    fn measuring(&mut self, done: u64, total: u64);
    /// A held-out loss was measured.
    fn held_out(&mut self, loss: &HeldOutLoss);
}

/// A finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOutcome {
    /// Optimizer steps.
    pub steps: u64,
    /// Trainable parameters.
    pub parameters: u64,
    /// Loss of the last step.
    pub loss: f64,
    /// Held-out loss of the result, where there are held-out rows.
    pub held_out_loss: Option<f64>,
}
