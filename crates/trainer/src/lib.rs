//! Training: from packed rows and a base model to a LoRA adapter or a fully trained model.
//!
//! [`train`] carries out a [`TrainRequest`] and reports to a [`TrainingObserver`]. Its parts:
//!
//! | module | subject |
//! |---|---|
//! | `run` | the loop: rows, optimizer steps, held-out losses, checkpoints |
//! | `optimizer` | one step: accumulate, clip, AdamW |
//! | `schedule`, `shuffle` | the learning rate of each step, the rows of each micro-batch |
//! | `model`, `backend` | what computes a step: the CPU kernels, or candle on another device |
//! | `workload` | memory and arithmetic of a plan |
//! | `checkpoint`, `metrics`, `tensorboard`, `artifact` | what a run writes |
//!
//! A killed run resumes from its newest checkpoint and ends bit-identical to an uninterrupted one.
//!
//! What this crate is not: it prepares no data, scores no tasks, and knows nothing of stages or the terminal.

mod artifact;
pub mod backend;
mod checkpoint;
mod device;
mod device_choice;
mod error;
mod metrics;
mod model;
mod optimizer;
mod process_memory;
mod request;
mod router_report;
mod run;
mod schedule;
mod shuffle;
mod tensorboard;
mod workload;

pub use artifact::write_full;
pub use device::Device;
pub use device_choice::DeviceChoice;
pub use error::TrainError;
pub use metrics::{HeldOutReport, Metric, StepReport, read_metrics};
pub use model::Model;
pub use optimizer::{AdamWOptions, Optimizer, StepInput, StepResult, TrainingState};
pub use process_memory::{available_bytes, peak_resident_bytes, resident_bytes};
pub use request::{TrainOutcome, TrainRequest, TrainingBase, TrainingObserver};
pub use router_report::RouterReport;
pub use run::train;
pub use schedule::{Schedule, Steps, WarmupStart};
pub use shuffle::ShuffleSampler;
pub use workload::{largest_micro_batch, load_options, workload};
