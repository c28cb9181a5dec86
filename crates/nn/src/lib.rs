//! Language models over the CPU kernels: loading, inference and training.
//!
//! The forward and backward passes are written by hand over `synapse-kernels`. There is no autograd tape, so a frozen
//! tensor never gets a gradient and memory is what the code below allocates.
//!
//! | to ... | use |
//! |---|---|
//! | load any model for inference | [`models::load`], which gives a [`LanguageModel`] |
//! | run sequences with their caches and adapters | [`CausalLm::forward`] over [`Sequence`]s |
//! | train LoRA or every weight | [`models::family`], which gives a [`TrainableModel`] |
//! | estimate memory and arithmetic of training | [`Workload`] |
//! | add a model family | [`models`] |
//!
//! Inference with a tiny random model:
//!
//! ```
//! use synapse_checkpoint::ModelConfig;
//! use synapse_nn::{CausalLm, Decoder, LoadOptions, LogitsFor, Phase, Sequence};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let text = r#"{ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
//! #     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
//! #     "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true }"#;
//! let config = ModelConfig::from_json(text, "config.json".as_ref())?;
//! let decoder = Decoder::random(&config, &LoadOptions::EXACT)?; // or Decoder::load_for_inference(&folder, ..)
//! let mut cache = decoder.new_cache();
//! let prompt = Sequence {
//!     tokens: &[1, 2, 3],
//!     cache: &mut cache,
//!     phase: Phase::Prefill,
//!     adapter: None,
//!     logits: LogitsFor::All,
//! };
//! let logits = decoder.forward(&mut [prompt])?.remove(0); // [3, vocab_size], flattened
//! assert_eq!(logits.len(), 3 * config.vocab_size);
//! assert_eq!(cache.len(), 3);
//! # Ok(())
//! # }
//! ```
//!
//! One training step of LoRA; the caller owns parameters and gradients, and updates them with an optimizer:
//!
//! ```
//! # use synapse_checkpoint::ModelConfig;
//! use synapse_nn::{LoadOptions, LoraOptions, MicroBatch, StepContext, models::family};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let text = r#"{ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
//! #     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
//! #     "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true }"#;
//! # let config = ModelConfig::from_json(text, "config.json".as_ref())?;
//! let mut model = family(config.architecture).random_lora(&config, &LoadOptions::BF16, LoraOptions::default())?;
//! let parameters = model.initial(42);
//! let mut gradients = vec![0.0; parameters.len()];
//!
//! let mut batch = MicroBatch::default();
//! batch.push(&[1, 2, 3, 4], &[-100, -100, 3, 4], &[4]); // ids, labels, document lengths
//! let context = StepContext {
//!     scale: 1.0 / batch.num_targets() as f32,
//!     key: [42, 0, 0],
//!     recompute: false,
//! };
//! let loss = model.accumulate(&parameters, &mut gradients, &batch, &context)? / batch.num_targets() as f64;
//! assert!((loss - (config.vocab_size as f64).ln()).abs() < 1.0); // an untrained model guesses
//! assert!(gradients.iter().any(|gradient| *gradient != 0.0));
//! # Ok(())
//! # }
//! ```
//!
//! What this crate is not: a trainer (no optimizer, no schedule) and not an engine (no sampling).

mod adapter;
mod adapter_source;
mod cache;
mod causal_lm;
mod cost;
mod error;
mod linear;
mod load_options;
mod lora;
mod lora_branch;
mod loss;
mod model_family;
pub mod models;
mod pool;
mod rotary;
mod tensor;
mod trace;
mod training;
mod weights;

pub use adapter::Adapter;
pub use cache::{KvBlock, KvCache, LayerCache};
pub use causal_lm::{CausalLm, LanguageModel, LogitsFor, Sequence};
pub use cost::{TrainableScope, TrainingMemory, Workload};
pub use error::NnError;
pub use load_options::{LoadOptions, WeightDtype};
pub use lora::{LoraLayout, LoraModule, LoraOptions, Parameter, initial_lora};
pub use models::llama::{Decoder, TrainableDecoder};
pub use rotary::inverse_frequencies;
pub use synapse_kernels::{Precision, attention::Phase};
pub use trace::{LayerTrace, ModuleTrace};
pub use training::{LayerRouterStatistics, MicroBatch, RouterStatistics, StepContext, TrainableModel};
