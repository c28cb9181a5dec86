//! Where the rows of an adapter's change come from: a product, DoRA's scaled sum, values in memory, a stored tensor.

use std::ops::Range;

use synapse_checkpoint::TensorFiles;

use crate::Result;
use crate::delta::Product;
use crate::tiles::{Rows, View};

/// [columns, rows] of [rows, columns].
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

/// δ = scale · B·A.
pub(crate) struct Added(pub(crate) Product);

impl Rows for Added {
    fn view(&self) -> View {
        View::Change
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        self.0.rows(rows.start, out);
        Ok(())
    }
}

/// DoRA: θᵢ = m · (W + scale·B·A) / ‖W + scale·B·A‖, row by row (Liu et al. 2024, arXiv 2402.09353).
pub(super) struct Decomposed {
    pub(super) product: Product,
    pub(super) columns: usize,
    /// One a row.
    pub(super) magnitude: Vec<f32>,
}

impl Rows for Decomposed {
    fn view(&self) -> View {
        View::Whole
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
pub(crate) struct Known {
    pub(crate) values: Vec<f32>,
    pub(crate) columns: usize,
    pub(crate) view: View,
}

impl Rows for Known {
    fn view(&self) -> View {
        self.view
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.values[rows.start * self.columns..rows.end * self.columns]);
        Ok(())
    }
}

/// A tensor trained whole, on disk.
pub(super) struct Trained<'a> {
    pub(super) files: &'a TensorFiles,
    pub(super) name: &'a str,
    /// One row is the whole tensor.
    pub(super) vector: bool,
}

impl Rows for Trained<'_> {
    fn view(&self) -> View {
        View::Whole
    }

    fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
        let rows = if self.vector { 0..out.len() } else { rows };
        Ok(self.files.read_f32_into(self.name, rows, out)?)
    }
}
