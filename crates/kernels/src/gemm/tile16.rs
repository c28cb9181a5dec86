//! Tiles of sixteen lines of sixteen 4-byte units, the squares in which operands are packed and transposed by vectors.
//!
//! A unit is an f32, or two bf16 that are adjacent along `k`, the first in the low half. What this is not: the loads and
//! transpositions themselves, which each instruction set has, and code for the remainders.

mod avx2;
mod avx512;

use super::Format;
use crate::{Isa, Matrix};

/// Sixteen lines of sixteen units: position and storage format.
pub(super) struct Tile16x16<'a> {
    pub(super) matrix: Matrix<'a>,
    /// First element.
    pub(super) start: usize,
    /// Elements between stored rows.
    pub(super) stride: usize,
    /// Units between lines of the output.
    pub(super) out_stride: usize,
}

impl Tile16x16<'_> {
    /// Reads sixteen stored rows, sixteen units of each; writes line `u` = unit `u` of the sixteen rows.
    ///
    /// # Safety
    /// [`Format::has_lanes`], and `out` must be valid for sixteen lines of sixteen units. The operand must contain the tile.
    pub(super) unsafe fn transpose_rows(&self, format: Format, out: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match format {
                Format { isa: Isa::Avx2, .. } => avx2::transpose_rows(self, out),
                Format { pairs: true, .. } => avx512::transpose_rows_pairs(self, out),
                Format { pairs: false, .. } => avx512::transpose_rows_floats(self, out),
            }
        }
    }

    /// Reads sixteen columns of sixteen units of stored rows; writes line `c` = column `c`'s sixteen units.
    ///
    /// # Safety
    /// Same as [`Tile16x16::transpose_rows`].
    pub(super) unsafe fn transpose_columns(&self, format: Format, out: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match format {
                // one float is one unit: the stored rows are transposed either way
                Format { isa: Isa::Avx2, .. } => avx2::transpose_rows(self, out),
                Format { pairs: true, .. } => avx512::transpose_columns_pairs(self, out),
                Format { pairs: false, .. } => avx512::transpose_columns_floats(self, out),
            }
        }
    }

    /// Reads sixteen columns of `units` units of stored rows; writes line `u` = unit `u` of the sixteen columns.
    ///
    /// # Safety
    /// Same as [`Tile16x16::transpose_rows`], for `units` lines.
    pub(super) unsafe fn copy_columns(&self, format: Format, units: usize, out: *mut f32) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match format {
                Format { isa: Isa::Avx2, .. } => avx2::copy_columns(self, units, out),
                Format { pairs: true, .. } => avx512::copy_columns_pairs(self, units, out),
                Format { pairs: false, .. } => avx512::copy_columns_floats(self, units, out),
            }
        }
    }
}
