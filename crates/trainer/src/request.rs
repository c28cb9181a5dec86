//! The request of a training run, its progress events and its outcome.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_data::PackedDataset;
use synapse_recipe::{QuantizationPlan, TrainPlan, TrainingMethod};

use crate::{
    Device,
    metrics::{HeldOutReport, StepReport},
};

/// The base of a training run.
#[derive(Debug)]
pub enum TrainingBase<'a> {
    /// A model folder; full training continues from its weights.
    Folder(&'a ModelFolder),
    /// A configuration whose weights are initialized at random from the seed.
    RandomInit(&'a ModelConfig),
}

impl TrainingBase<'_> {
    pub(crate) fn config(&self) -> &ModelConfig {
        match self {
            Self::Folder(folder) => folder.config(),
            Self::RandomInit(config) => config,
        }
    }
}

/// The prepared rows of a training run.
#[derive(Debug, Clone, Copy)]
pub struct TrainingRows<'a> {
    /// Rows to train on.
    pub train: &'a PackedDataset,
    /// Rows whose loss is measured; may be empty.
    pub held_out: &'a PackedDataset,
}

/// A training run. Start from [`TrainRequest::new`] and set the fields that differ from its defaults.
#[derive(Debug)]
#[non_exhaustive]
pub struct TrainRequest<'a> {
    /// The loop's settings.
    pub plan: &'a TrainPlan,
    /// LoRA or full.
    pub method: &'a TrainingMethod,
    /// Storage of frozen weights.
    pub quantization: QuantizationPlan,
    /// The device that computes the steps.
    pub device: Device,
    /// The base.
    pub base: TrainingBase<'a>,
    /// The base's name in adapter_config.json.
    pub base_name: &'a str,
    /// Commit of a base from the hub.
    pub base_revision: Option<&'a str>,
    /// Rows to train on, and rows whose loss is measured.
    pub rows: TrainingRows<'a>,
    /// Steps between held-out losses; 0 measures only at the end.
    pub evaluate_every: u64,
    /// Folder of metrics and checkpoints.
    pub run: &'a Path,
    /// Covers everything that determines the run's numbers. A checkpoint with another fingerprint is not resumed.
    pub fingerprint: &'a str,
    /// An existing staging folder that receives the artifact.
    pub out: &'a Path,
    /// Set to stop after the current step.
    pub stop: &'a AtomicBool,
}

impl<'a> TrainRequest<'a> {
    /// A run on the CPU kernels with weights that are not quantized. It measures the held-out loss at the end only.
    ///
    /// `run` is the folder of metrics and checkpoints, `out` an existing folder that receives the result. The base is named
    /// by its folder, a checkpoint of an earlier such run in `run` is resumed, and nothing stops the run early.
    #[must_use]
    pub fn new(
        plan: &'a TrainPlan,
        method: &'a TrainingMethod,
        base: TrainingBase<'a>,
        rows: TrainingRows<'a>,
        run: &'a Path,
        out: &'a Path,
    ) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        let base_name = match base {
            TrainingBase::Folder(folder) => folder.path().to_str().unwrap_or_default(),
            TrainingBase::RandomInit(_) => "",
        };
        Self {
            plan,
            method,
            quantization: QuantizationPlan::None,
            device: Device::default(),
            base,
            base_name,
            base_revision: None,
            rows,
            evaluate_every: 0,
            run,
            fingerprint: "",
            out,
            stop: &NEVER,
        }
    }
}

/// Receives the progress of a training run.
pub trait TrainingObserver {
    /// The run starts or resumes after `done` of `total` steps.
    fn start(&mut self, done: u64, total: u64);
    /// A step is done.
    fn step(&mut self, report: &StepReport);
    /// A held-out loss is being measured: `done` of `total` rows.
    fn measuring(&mut self, done: u64, total: u64);
    /// A held-out loss was measured.
    fn held_out(&mut self, loss: &HeldOutReport);
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
