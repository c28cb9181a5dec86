//! The Llama family: decoders of rotary attention and a SwiGLU MLP, which Llama, SmolLM2, Mistral, SmolLM3, Qwen2 and Qwen3
//! models are. What distinguishes them are biases, norms over heads and layers without rotation; see
//! [`synapse_checkpoint::ModelConfig`].

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
