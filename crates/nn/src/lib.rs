//! Decoders for training and serving.
//!
//! The forward and backward passes are written by hand over `synapse-kernels`; no autograd tape
//! exists, so no frozen tensor ever gets a gradient and memory is what the code below allocates.
//! What this crate is not: a trainer (no optimizer, no schedule) and not an engine (no sampling).

mod adapter;
mod cache;
mod causal_lm;
mod decoder;
mod error;
mod generation;
mod inference;
mod linear;
pub mod models;
mod parameters;
mod pool;
mod replace;
mod stored;
mod tensor;
mod trace;
mod training;

pub use adapter::{Adapter, AdapterModule};
pub use cache::{KvBlock, KvCache, LayerCache};
pub use causal_lm::{CausalLm, LanguageModel, LogitsFor, Sequence};
pub use decoder::{Decoder, LoadOptions, WeightDtype};
pub use error::NnError;
pub use parameters::{LoraOptions, Parameter, initial_lora};
pub use synapse_kernels::{Precision, attention::Role};
pub use trace::{LayerTrace, ModuleTrace};
pub use training::{Memory, MicroBatch, Pass, TrainableModel, Trained, Workload};
