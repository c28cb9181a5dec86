//! Training: from packed rows and a base to an adapter folder or a model folder.
//!
//! The loop is in `run.rs`; around it stand the learning-rate schedule, the order of rows, the
//! optimizer's flat state, checkpoints that make a killed run end bit-identical to an uninterrupted
//! one, and metrics as JSON lines and TensorBoard events. What computes a step is behind `model.rs`: the CPU
//! kernels, or candle's operations on another device (feature `candle`, and `cuda` or `metal` over it). What this crate is not: it prepares no data,
//! scores no tasks, and knows nothing of stages or of the terminal.

mod artifact;
mod budget;
#[cfg_attr(not(feature = "candle"), path = "without_candle.rs")]
mod candle;
mod checkpoint;
mod course;
mod device;
mod error;
mod events;
mod kernels;
mod metrics;
mod model;
mod order;
mod probe;
mod request;
mod run;
mod schedule;
mod state;
mod synapse;
mod tasks;

pub use budget::{largest_micro_batch, load_options, memory, trained_parameters, workload};
pub use course::{Course, CourseResult, synapse_config, transformer_config};
pub use device::{Device, DeviceChoice};
pub use error::TrainError;
pub use metrics::{HeldOutLoss, Metric, StepReport, read_metrics};
pub use order::RowOrder;
pub use probe::{
    Measurement, Probe, ProbeBase, Rates, available_bytes, peak_resident_bytes, product_rate, resident_bytes,
};
pub use request::{Observer, TrainOutcome, TrainRequest, TrainingBase};
pub use run::train;
pub use schedule::{Schedule, Steps};
pub use synapse::RouterReport;
pub use tasks::Task;
