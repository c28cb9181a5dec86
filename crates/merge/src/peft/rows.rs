//! Where the rows of an adapter's change come from: a product, DoRA's scaled sum, values in memory, a stored tensor.

use std::ops::Range;

use synapse_checkpoint::TensorFiles;

use crate::Result;
use crate::low_rank::LowRankProduct;
use crate::tiles::{Representation, RowSource};

/// [columns, rows] of [rows, columns].
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

/// δ = scale · B·A.
pub(crate) struct LowRankUpdate(pub(crate) LowRankProduct);

impl RowSource for LowRankUpdate {
    fn representation(&self) -> Representation {
        Representation::Change
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        self.0.rows(rows.start, out);
        Ok(())
    }
}

/// DoRA: θᵢ = m · (W + scale·B·A) / ‖W + scale·B·A‖, row by row (Liu et al. 2024, arXiv 2402.09353).
pub(super) struct DoraRows {
    pub(super) product: LowRankProduct,
    pub(super) columns: usize,
    /// One a row.
    pub(super) magnitude: Vec<f32>,
}

impl RowSource for DoraRows {
    fn representation(&self) -> Representation {
        Representation::Whole
    }

    fn needs_base(&self) -> bool {
        true
    }

    fn read(&self, rows: Range<usize>, base: &[f32], out: &mut [f32]) -> Result<()> {
        self.product.rows(rows.start, out);
        let width = self.columns.max(1);
        for (row, (out, base)) in rows.zip(out.chunks_mut(width).zip(base.chunks(width))) {
            out.iter_mut().zip(base).for_each(|(value, base)| *value += base);
            let norm = out
                .iter()
                .map(|&value| f64::from(value) * f64::from(value))
                .sum::<f64>()
                .sqrt();
            let factor = (f64::from(self.magnitude[row]) / norm) as f32;
            out.iter_mut().for_each(|value| *value *= factor);
        }
        Ok(())
    }
}

/// Values in memory.
pub(crate) struct DenseRows {
    pub(crate) values: Vec<f32>,
    pub(crate) columns: usize,
    pub(crate) representation: Representation,
}

impl RowSource for DenseRows {
    fn representation(&self) -> Representation {
        self.representation
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.values[rows.start * self.columns..rows.end * self.columns]);
        Ok(())
    }
}

/// A tensor trained whole, on disk.
pub(super) struct StoredRows<'a> {
    pub(super) files: &'a TensorFiles,
    pub(super) name: &'a str,
    /// One row is the whole tensor.
    pub(super) vector: bool,
}

impl RowSource for StoredRows<'_> {
    fn representation(&self) -> Representation {
        Representation::Whole
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        let rows = if self.vector { 0..out.len() } else { rows };
        Ok(self.files.read_f32_into(self.name, rows, out)?)
    }
}
