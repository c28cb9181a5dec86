//! Where a decoder's tensors come from: a model folder, ggml's blocks, random values, or the flat buffer of trainable
//! parameters.

mod quantized;
mod random;
mod source;

pub(crate) use quantized::{GgufSource, QuantizedSource, quantized_matrix};
pub(crate) use random::RandomSource;
pub(crate) use source::{FolderSource, ParameterSource, WeightSource};
