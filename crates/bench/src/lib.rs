//! Training benchmarks.
//!
//! - [`StepBenchmark`] measures a LoRA training step: tokens per second, arithmetic rate, peak memory.
//! - [`StepCost`] measures the parts of a step on a cut-down model, from which the time of a whole run is estimated.
//! - [`SyntheticTaskRun`] trains a small model on a [`SyntheticTask`] and measures its accuracy on longer documents.
//!
//! What this crate is not: an evaluation of trained models on benchmarks, which is `synapse-evaluate`, or a benchmark of
//! single kernels, which stands in `synapse-kernels`.

mod step;
mod step_cost;
mod synthetic;
mod task;

pub use step::{BenchmarkBase, BenchmarkResult, StepBenchmark, product_rate};
pub use step_cost::StepCost;
pub use synthetic::{SyntheticTaskResult, SyntheticTaskRun, synapse_config, transformer_config};
pub use task::SyntheticTask;
