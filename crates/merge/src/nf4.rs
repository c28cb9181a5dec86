//! The base as QLoRA training saw it: a matrix through NF4 and back.

use std::ops::Range;

use synapse_kernels::nf4::Nf4Matrix;

use crate::Result;
use crate::inputs::StoredTensor;
use crate::tiles::{Representation, RowSource, rows_and_columns};

/// A quantized matrix, dequantized row by row. Blocks of 64 with double quantization, as bitsandbytes does it.
pub(crate) struct Nf4Rows {
    matrix: Nf4Matrix,
    columns: usize,
}

impl Nf4Rows {
    /// Quantizes a stored matrix.
    pub(crate) fn of(stored: &StoredTensor<'_>, shape: &[usize]) -> Result<Self> {
        let (rows, columns) = rows_and_columns(shape);
        let mut values = vec![0.0; rows * columns];
        stored.read(0..rows, &[], &mut values)?;
        Ok(Self {
            matrix: Nf4Matrix::quantize(&values, rows, columns, true),
            columns,
        })
    }
}

impl RowSource for Nf4Rows {
    fn representation(&self) -> Representation {
        Representation::Whole
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        self.matrix.decode(rows.start * self.columns, out);
        Ok(())
    }
}
