//! From a model folder to tensors on a device.

use candle_core::{DType, Device, Tensor};
use half::bf16;
use synapse_checkpoint::ModelFolder;
use synapse_kernels::Nf4Matrix;
use synapse_nn::NnError;

use crate::{
    CandleError,
    weight::{Nf4Tensor, Weight, pair_table},
};

/// How the linear layers' weights are stored; embedding, head and norms are never quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightStorage {
    /// In the dtype of the computation.
    None,
    /// 4-bit NormalFloat in blocks of 64.
    Nf4 {
        /// Whether the blocks' scales are quantized to 8 bits too.
        double_quant: bool,
    },
}

/// Reads the tensors of one folder to one device.
pub(crate) struct Loader<'a> {
    folder: &'a ModelFolder,
    device: &'a Device,
    dtype: DType,
    quantization: WeightStorage,
    /// NF4's decoding table, shared by all weights.
    table: Tensor,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        folder: &'a ModelFolder,
        device: &'a Device,
        dtype: DType,
        quantization: WeightStorage,
    ) -> Result<Self, CandleError> {
        if !matches!(dtype, DType::F32 | DType::BF16) {
            let hint = "take f32 or bf16; f16 overflows in training".to_owned();
            return Err(NnError::Unsupported {
                what: format!("computing in {}", dtype.as_str()),
                hint,
            }
            .into());
        }
        Ok(Self {
            folder,
            device,
            dtype,
            quantization,
            table: pair_table(device)?,
        })
    }

    /// A matrix that is not quantized, in the dtype of the computation.
    pub(crate) fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Tensor, CandleError> {
        Ok(match self.dtype {
            DType::BF16 => Tensor::from_vec::<_, bf16>(self.folder.read_bf16(name)?, &shape, self.device)?,
            _ => Tensor::from_vec(self.folder.read_f32(name)?, &shape, self.device)?,
        })
    }

    /// The weight of a linear layer.
    pub(crate) fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Weight, CandleError> {
        Ok(match self.quantization {
            WeightStorage::None => Weight::Dense(self.matrix(name, shape)?),
            WeightStorage::Nf4 { double_quant } => {
                let matrix = Nf4Matrix::quantize(&self.folder.read_f32(name)?, shape[0], shape[1], double_quant);
                Weight::Nf4(Nf4Tensor::new(&matrix, &self.table, self.dtype)?)
            }
        })
    }

    /// A bias, in the dtype of the computation.
    pub(crate) fn bias(&self, name: &str) -> Result<Tensor, CandleError> {
        Ok(self.norm(name)?.to_dtype(self.dtype)?)
    }

    /// A norm's weight, in f32.
    pub(crate) fn norm(&self, name: &str) -> Result<Tensor, CandleError> {
        let values = self.folder.read_f32(name)?;
        let len = values.len();
        Ok(Tensor::from_vec(values, len, self.device)?)
    }
}
