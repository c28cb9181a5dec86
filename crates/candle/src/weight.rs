//! The weight of a frozen linear layer on a device: dense, or in NF4 and decoded for each product.

use candle_core::{DType, Device, Result, Tensor};
use synapse_kernels::{Nf4Matrix, nf4};

/// A frozen weight `[out, in]`. Cloning shares the device's memory.
#[derive(Debug, Clone)]
pub(crate) enum Weight {
    /// In the dtype of the products.
    Dense(Tensor),
    /// 4-bit NormalFloat.
    Nf4(Nf4Tensor),
}

impl Weight {
    /// `[out, in]` in the dtype of the products, contiguous.
    pub(crate) fn decode(&self) -> Result<Tensor> {
        match self {
            Self::Dense(weight) => Ok(weight.clone()),
            Self::Nf4(weight) => weight.decode(),
        }
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        match self {
            Self::Dense(weight) => bytes(weight),
            Self::Nf4(weight) => bytes(&weight.pairs) + bytes(&weight.absmax),
        }
    }
}

/// The two levels that each byte of codes stands for, `[256, 2]` f32, the high nibble first.
pub(crate) fn pair_table(device: &Device) -> Result<Tensor> {
    let levels: Vec<f32> = (0..=255u8)
        .flat_map(|byte| [nf4::CODE[usize::from(byte >> 4)], nf4::CODE[usize::from(byte & 15)]])
        .collect();
    Tensor::from_vec(levels, (256, 2), device)
}

/// A matrix quantized on the host, kept on a device at half a byte an element plus one f32 scale per 64.
#[derive(Debug, Clone)]
pub(crate) struct Nf4Tensor {
    /// Packed codes, u8, filled up to whole blocks.
    pairs: Tensor,
    /// `[blocks, 1]`, f32.
    absmax: Tensor,
    /// See [`pair_table`].
    table: Tensor,
    shape: (usize, usize),
    dtype: DType,
}

impl Nf4Tensor {
    /// Copies a quantized matrix to the table's device; it decodes to `dtype`.
    pub(crate) fn new(matrix: &Nf4Matrix, table: &Tensor, dtype: DType) -> Result<Self> {
        let blocks = matrix.absmax().len();
        let mut codes = matrix.codes().to_vec();
        codes.resize(blocks * nf4::BLOCK / 2, 0);
        Ok(Self {
            pairs: Tensor::from_vec(codes, blocks * nf4::BLOCK / 2, table.device())?,
            absmax: Tensor::from_slice(matrix.absmax(), (blocks, 1), table.device())?,
            table: table.clone(),
            shape: matrix.shape(),
            dtype,
        })
    }

    /// Level times scale in f32, as the kernels decode, then one rounding to the dtype of the products.
    fn decode(&self) -> Result<Tensor> {
        let (rows, cols) = self.shape;
        // as u32, because candle reads an index's largest value, here the byte 255, as "zero"
        let levels = self
            .table
            .index_select(&self.pairs.to_dtype(DType::U32)?, 0)?
            .reshape(((), nf4::BLOCK))?;
        levels
            .broadcast_mul(&self.absmax)?
            .flatten_all()?
            .narrow(0, 0, rows * cols)?
            .reshape(self.shape)?
            .to_dtype(self.dtype)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use synapse_kernels::random::Stream;

    use super::*;

    #[test]
    fn decodes_to_the_bit_what_the_kernels_decode_short_blocks_and_odd_sizes_included() {
        let table = pair_table(&Device::Cpu).unwrap();
        for (rows, cols) in [(64, 128), (5, 13), (3, 43), (1, 1)] {
            // wide enough that neighbors reach the largest level together
            let value = |i: usize| (2.0 * Stream::new(&[7]).normal(i as u64)).clamp(-1.0, 1.0);
            let values: Vec<f32> = (0..rows * cols).map(value).collect();
            let matrix = Nf4Matrix::quantize(&values, rows, cols, true);
            let decoded = Weight::Nf4(Nf4Tensor::new(&matrix, &table, DType::F32).unwrap())
                .decode()
                .unwrap();
            assert_eq!(decoded.dims(), [rows, cols]);
            assert_eq!(
                decoded.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                matrix.dequantize()
            );
        }
    }
}
