//! Decoders for training and serving.
//!
//! The forward and backward passes are written by hand over `synapse-kernels`; no autograd tape
//! exists, so no frozen tensor ever gets a gradient and memory is what the code below allocates.
//! What this crate is not: a trainer (no optimiser, no schedule) and not an engine (no sampling).

mod adapter;
mod cache;
mod causal_lm;
mod error;

pub use adapter::Adapter;
pub use cache::{KvCache, LayerCache};
pub use causal_lm::{CausalLm, LogitsFor, Sequence};
pub use error::NnError;
