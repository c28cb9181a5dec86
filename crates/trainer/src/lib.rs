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
//! Two optimizer steps of a tiny model with random weights, without files:
//!
//! ```
//! use synapse_checkpoint::ModelConfig;
//! use synapse_nn::{MicroBatch, Precision};
//! use synapse_trainer::{AdamWOptions, Optimizer, StepInput, TrainingState, backend::cpu};
//!
//! let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
//!     "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50,
//!     "max_position_embeddings": 64}"#;
//! let config = ModelConfig::from_json(config, "config.json".as_ref())?;
//! let mut model = cpu::full(&config, Precision::F32)?;
//! let mut optimizer = Optimizer::new(TrainingState::new(model.initial(0)), AdamWOptions::default());
//!
//! // one document; every token but the first is a target
//! let mut batch = MicroBatch::default();
//! batch.push(&[3, 14, 15, 9, 26], &[3, 14, 15, 9, 26], &[5]);
//! let input = StepInput { batches: &[batch], rows: &[], seed: 0, learning_rate: 1e-2, recompute: false };
//! let first = optimizer.step(model.as_mut(), &input)?;
//! let second = optimizer.step(model.as_mut(), &input)?;
//! assert_eq!(first.target_tokens, 4);
//! assert!(second.loss < first.loss);
//! assert_eq!(optimizer.state().step, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
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
pub use request::{TrainOutcome, TrainRequest, TrainingBase, TrainingObserver, TrainingRows};
pub use router_report::RouterReport;
pub use run::train;
pub use schedule::{Schedule, Steps, WarmupStart};
pub use shuffle::ShuffleSampler;
pub use workload::{largest_micro_batch, load_options, workload};
