//! The Synapse architecture: a model without attention, whose layers send each token to the modules that fire.
//!
//! A thalamus (one Mamba block) reads the stream and chooses, per token, among an xLSTM language module, sparse SwiGLU
//! experts and a fast-weight memory with a gated delta rule. Time is linear in the tokens and the state of a sequence
//! has a fixed size. Forward and backward are written by hand over `synapse-kernels`, as those of the decoders are.
//! What this crate is not: a trainer (no optimizer, no schedule) and not an engine (no sampling).

mod adapter;
mod carry;
mod cost;
mod experts;
mod language;
mod layer;
mod layout;
mod linear;
mod lora;
mod memory;
mod model;
mod routing;
mod sent;
mod serving;
mod shared;
#[cfg(test)]
mod tests;
mod thalamus;
mod training;

pub use adapter::SynapseLora;
pub use cost::{flops, memory, trained_parameters};
pub use model::SynapseModel;
pub use serving::ServedSynapse;
pub use training::{LayerUse, Passed};
