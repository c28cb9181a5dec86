//! The Llama family: decoders of rotary attention and a SwiGLU MLP, which Llama, SmolLM2 and Qwen2 models are.

mod cost;
mod decode_weights;
mod decoder;
mod family;
mod inference;
mod set_tensor;
mod training;

pub use decoder::Decoder;
pub use family::Llama;
pub use training::TrainableDecoder;
