//! The Synapse family: mixture-of-experts models without attention.
//!
//! In every layer a router (one Mamba block) chooses, per token, among an xLSTM language module, sparse SwiGLU experts and
//! a fast-weight memory with a gated delta rule. Time is linear in the tokens and the state of a sequence has a fixed
//! size. Forward and backward are written by hand over `synapse-kernels`, as those of the decoders are. On disk the
//! router's tensors are called `thalamus.*`.
//! What this module is not: a trainer (no optimizer, no schedule) and not an engine (no sampling).

mod blocks;
mod cost;
mod dispatch;
mod experts;
mod family;
mod inference;
mod language;
mod layer;
mod layout;
mod linear;
mod lora_training;
mod memory;
mod model;
mod recurrent_state;
mod router;
mod routing;
mod sequence_module;
#[cfg(test)]
mod tests;
mod trainable;
mod training;

pub use family::Synapse;
pub use inference::SynapseCausalLm;
pub use lora_training::SynapseLora;
pub use model::SynapseModel;
pub use trainable::TrainableSynapse;
pub use training::StepOutput;
