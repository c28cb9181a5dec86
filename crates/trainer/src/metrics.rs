//! A run's metrics: `metrics.jsonl`, one object per line, and the same scalars for TensorBoard.
//!
//! On resume, lines after the checkpoint are dropped, so the file reads like that of an uninterrupted run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use synapse_checkpoint::write_atomic;

use crate::{RouterReport, TrainError, tensorboard::EventFile};

/// One optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Steps done, from 1.
    pub step: u64,
    /// Passes over the rows done.
    pub epoch: f64,
    /// Mean loss per target token of the step, in nats.
    pub loss: f64,
    /// Learning rate used.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Tokens read in the step.
    pub tokens: u64,
    /// Tokens of the step that contributed to the loss.
    #[serde(rename = "trained_tokens")]
    pub target_tokens: u64,
    /// Wall time of the step.
    pub seconds: f64,
    /// Router statistics, for mixture-of-experts models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterReport>,
}

/// The held-out loss at a step of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOutReport {
    /// Steps done when it was measured.
    pub step: u64,
    /// Mean loss per target token, in nats.
    pub held_out_loss: f64,
    /// Number of target tokens.
    pub held_out_tokens: u64,
}

/// A line of metrics.jsonl.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Metric {
    /// A training step.
    Step(StepReport),
    /// A held-out loss.
    HeldOut(HeldOutReport),
}

impl Metric {
    fn step(&self) -> u64 {
        match self {
            Self::Step(report) => report.step,
            Self::HeldOut(loss) => loss.step,
        }
    }
}

/// Reads a run's metrics. A half-written last line is skipped.
///
/// # Errors
/// The file exists but cannot be read.
pub fn read_metrics(run: &Path) -> Result<Vec<Metric>, TrainError> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    Ok(text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

/// The open metric files of a run.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: PathBuf,
    file: File,
    events: EventFile,
}

impl Recorder {
    /// Opens the files, keeping what was recorded up to `step`.
    pub(crate) fn open(run: &Path, step: u64) -> Result<Self, TrainError> {
        std::fs::create_dir_all(run).map_err(TrainError::io(run))?;
        let path = run.join("metrics.jsonl");
        let earlier: Vec<Metric> = read_metrics(run)?
            .into_iter()
            .filter(|metric| step > 0 && metric.step() <= step)
            .collect();
        let mut text = Vec::new();
        for metric in &earlier {
            text.extend(line(&path, metric)?);
        }
        write_atomic(&path, &text)?;
        let file = File::options()
            .append(true)
            .open(&path)
            .map_err(TrainError::io(&path))?;
        let mut recorder = Self {
            path,
            file,
            events: EventFile::create(run)?,
        };
        for metric in &earlier {
            recorder.scalars(metric)?;
        }
        Ok(recorder)
    }

    /// Appends one metric.
    pub(crate) fn record(&mut self, metric: &Metric) -> Result<(), TrainError> {
        let bytes = line(&self.path, metric)?;
        self.file.write_all(&bytes).map_err(TrainError::io(&self.path))?;
        self.scalars(metric)
    }

    fn scalars(&mut self, metric: &Metric) -> Result<(), TrainError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |elapsed| elapsed.as_secs_f64());
        match metric {
            Metric::Step(report) => {
                let rate = report.tokens as f64 / report.seconds.max(1e-9);
                let values = [
                    ("train/loss", report.loss),
                    ("train/learning_rate", report.learning_rate),
                    ("train/grad_norm", report.grad_norm),
                    ("train/tokens_per_second", rate),
                ];
                let router = report.router.iter().flat_map(|router| {
                    [
                        ("router/balance_loss", router.balance_loss),
                        ("router/z_loss", router.router_z_loss),
                        ("router/load_entropy", router.load_entropy),
                        ("router/dead_experts", router.dead_experts as f64),
                    ]
                });
                for (tag, value) in values.into_iter().chain(router) {
                    self.events.scalar(tag, report.step, now, value as f32)?;
                }
                Ok(())
            }
            Metric::HeldOut(loss) => {
                self.events
                    .scalar("eval/held_out_loss", loss.step, now, loss.held_out_loss as f32)
            }
        }
    }
}

fn line(path: &Path, metric: &Metric) -> Result<Vec<u8>, TrainError> {
    let mut bytes = serde_json::to_vec(metric).map_err(|error| TrainError::Io {
        path: path.to_owned(),
        source: error.into(),
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}
