//! Training benchmarks.
//!
//! - [`StepBenchmark`] measures a LoRA training step: tokens per second, arithmetic rate, peak memory.
//! - [`StepCost`] measures the parts of a step on a cut-down model, from which the time of a whole run is estimated.
//! - [`SyntheticTaskRun`] trains a small model on a [`SyntheticTask`] and measures its accuracy on longer documents.
//!
//! ```
//! use synapse_bench::{BenchmarkBase, StepBenchmark};
//! use synapse_checkpoint::ModelConfig;
//! use synapse_nn::{LoadOptions, LoraOptions};
//!
//! let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
//!     "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50,
//!     "max_position_embeddings": 64}"#;
//! let config = ModelConfig::from_json(config, "config.json".as_ref())?;
//! let benchmark = StepBenchmark {
//!     base: BenchmarkBase::Random(&config),
//!     load: LoadOptions::EXACT,
//!     lora: LoraOptions { rank: 4, scale: 2.0, dropout: 0.0, targets: vec!["q_proj".into()] },
//!     batch: 2,
//!     length: 16,
//!     recompute: false,
//!     steps: 3,
//!     warmup: 1,
//! };
//! let result = benchmark.measure(&mut |_step| {})?;
//! assert_eq!((result.tokens, result.seconds.len()), (32, 3));
//! assert!(result.median_seconds() > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What this crate is not: an evaluation of trained models on benchmarks, which is `synapse-evaluate`, or a benchmark of
//! single kernels, which is in `synapse-kernels`.

mod step;
mod step_cost;
mod synthetic;
mod task;

pub use step::{BenchmarkBase, BenchmarkResult, StepBenchmark, product_rate};
pub use step_cost::StepCost;
pub use synthetic::{SyntheticTaskResult, SyntheticTaskRun, synapse_config, transformer_config};
pub use task::SyntheticTask;
