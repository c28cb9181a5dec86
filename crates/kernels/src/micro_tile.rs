//! The operands of one micro-kernel call: a few rows of the left operand by one packed panel of the right one.
//!
//! What this is not: a kernel. `gemm` has the portable and AVX kernels, `amx` the one for the tile unit.

/// Columns that one micro-kernel call covers, the width of a packed panel, where registers have sixteen floats.
pub(crate) const PANEL: usize = 32;
/// The same where they have eight or fewer.
pub(crate) const NARROW_PANEL: usize = 16;

/// Pointers to the first 4-byte units of a tile, each an f32 or a pair of bf16.
pub(crate) struct Tile {
    pub(crate) left: *const f32,
    pub(crate) left_stride: usize,
    pub(crate) panel: *const f32,
    pub(crate) steps: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    pub(crate) width: usize,
    pub(crate) scale: f32,
    pub(crate) add: bool,
}

impl Tile {
    /// Writes sums of one row to the output.
    ///
    /// # Safety
    /// `row` must be a row of the tile.
    #[inline(always)]
    pub(crate) unsafe fn store(&self, row: usize, first: usize, sums: &[f32]) {
        let width = self.width.saturating_sub(first).min(sums.len());
        // SAFETY: `width` columns from `first` are inside the output's row.
        let out = unsafe { std::slice::from_raw_parts_mut(self.out.add(row * self.out_stride + first), width) };
        for (target, &sum) in out.iter_mut().zip(sums) {
            *target = if self.add {
                *target + self.scale * sum
            } else {
                self.scale * sum
            };
        }
    }
}
