//! Training: from packed rows and a base to an adapter folder or a model folder.
//!
//! The loop is in `run.rs`; around it stand the learning-rate schedule, the order of rows, the
//! optimiser's flat state, checkpoints that make a killed run end bit-identical to an uninterrupted
//! one, and metrics as JSON lines and TensorBoard events. What this crate is not: it prepares no data,
//! scores no tasks, and knows nothing of stages or of the terminal.

mod artefact;
mod budget;
mod checkpoint;
mod error;
mod events;
mod metrics;
mod order;
mod probe;
mod run;
mod schedule;
mod state;

pub use budget::{load_options, workload};
pub use error::TrainError;
pub use metrics::{HeldOutLoss, Metric, StepReport, read_metrics};
pub use order::RowOrder;
pub use probe::{Measurement, Probe, ProbeBase, Rates, available_bytes, peak_resident_bytes, product_rate};
pub use run::{Observer, TrainOutcome, TrainRequest, TrainingBase, train};
pub use schedule::{Schedule, Steps};
