//! How a model's weights are stored in memory and multiplied.

use synapse_checkpoint::gguf::TensorType;
use synapse_kernels::Precision;

/// Storage of the linears' weights in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightDtype {
    /// f32, and f32 arithmetic.
    F32,
    /// bf16.
    Bf16,
    /// 4-bit NormalFloat in blocks of 64; embeddings, head and norms stay in bf16 or f32.
    Nf4 {
        /// Whether the blocks' scales are quantized to 8 bits too.
        double_quant: bool,
    },
    /// ggml's Q4_0, as an export to GGUF quantizes: 4 bits, the output head (or the embedding it is tied to) 8.
    Q4_0,
    /// ggml's Q8_0: 8 bits, the embedding too.
    Q8_0,
}

impl WeightDtype {
    /// ggml's type, of a storage that is ggml's.
    pub(crate) fn ggml(self) -> Option<TensorType> {
        match self {
            Self::Q4_0 => Some(TensorType::Q4_0),
            Self::Q8_0 => Some(TensorType::Q8_0),
            Self::F32 | Self::Bf16 | Self::Nf4 { .. } => None,
        }
    }
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Storage of the weights.
    pub dtype: WeightDtype,
    /// Rounding of the factors of matrix products.
    pub precision: Precision,
}

impl LoadOptions {
    /// f32 throughout, for parity with reference implementations.
    pub const EXACT: Self = Self {
        dtype: WeightDtype::F32,
        precision: Precision::F32,
    };
    /// bf16 storage and products.
    pub const BF16: Self = Self {
        dtype: WeightDtype::Bf16,
        precision: Precision::Bf16,
    };
}
