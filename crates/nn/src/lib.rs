//! Decoders for training and serving.
//!
//! The forward and backward passes are written by hand over `synapse-kernels`; no autograd tape
//! exists, so no frozen tensor ever gets a gradient and memory is what the code below allocates.
//! What this crate is not: a trainer (no optimizer, no schedule) and not an engine (no sampling).

mod adapter;
mod cache;
mod causal_lm;
mod cost;
mod error;
mod linear;
mod load_options;
mod lora;
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
