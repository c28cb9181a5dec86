//! The candle backend: decoders of the Llama family (Llama, Mistral, SmolLM3, Qwen2, Qwen3) in candle operations, on any device candle has.
//!
//! [`CandleTrainer`] trains LoRA and [`CandleDecoder`] gives logits and losses, on CUDA, Metal or the CPU. On the CPU the
//! crate is also the reference that `synapse-nn`'s hand-written passes are compared with. The trainer has the contract
//! of `synapse_nn::TrainableModel`: the same flat f32 parameters in the same order, the same micro-batches, the same
//! dropout masks.
//!
//! The layer loop is written out here too: the forward pass saves the layers' inputs, and the backward pass runs one
//! layer at a time again under candle's autograd. Frozen tensors never enter the tape (see `frozen`), and no fused
//! operation without a backward pass is used where a gradient must pass through.
//!
//! | module | subject |
//! |---|---|
//! | `decoder`, `layer`, `attention`, `norm`, `rotary` | the forward pass |
//! | `trainer`, `cross_entropy`, `lora`, `frozen` | LoRA's backward pass, one layer on the tape at a time |
//! | `inference`, `adapter` | cached generation, with a loaded adapter |
//! | `load`, `weight` | from a model folder to tensors on a device, dense or NF4 |
//! | `device` | which devices there are |
//!
//! The LM-head loss is written a second time here, because it is part of the reference. LoRA's layout, its initial values
//! and the rotary frequencies are `synapse-nn`'s.
//!
//! What this crate is not: fast on the CPU (that is `synapse-nn`), a trainer (no optimizer, no schedule) or an engine (no
//! sampling, one sequence at a time).

mod adapter;
mod attention;
mod cross_entropy;
#[cfg(feature = "candle-datasets")]
pub mod datasets;
mod decoder;
mod device;
mod error;
mod frozen;
mod inference;
mod layer;
mod load;
mod lora;
mod norm;
mod rotary;
mod sequences;
mod trainer;
mod weight;

pub use adapter::DeviceAdapter;
pub use candle_core::{DType, Device};
pub use decoder::CandleDecoder;
pub use device::DeviceKind;
pub use error::CandleError;
pub use inference::DeviceCache;
pub use load::WeightStorage;
pub use trainer::CandleTrainer;
