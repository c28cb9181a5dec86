//! Llama and Qwen2 decoders in plain candle operations, on any device candle has.
//!
//! On the CPU this crate is the oracle that `synapse-nn`'s hand-written passes are compared with; on CUDA and
//! Metal it is how models are trained and evaluated. [`CandleTrainer`] has the contract of
//! `synapse_nn::TrainableDecoder` for LoRA: the same flat f32 parameters in the same order, the same
//! micro-batches, the same dropout masks. [`CandleDecoder`] gives logits and losses.
//!
//! The layer loop is written out here as it is there: the forward pass keeps the layers' inputs, and the
//! backward pass runs one layer at a time again under candle's autograd. Frozen tensors never meet the tape
//! (see `frozen`), and nothing that is fused without a backward pass is used where a gradient must go through.
//!
//! What this crate is not: fast on the CPU (that is `synapse-nn`), a trainer (no optimizer, no schedule) or an
//! engine (no sampling, one sequence at a time).

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
