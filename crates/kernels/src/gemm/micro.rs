//! The innermost loops: a tile of up to `ROWS` rows by one panel of 32 columns.

use super::{Block, PANEL};
use crate::Isa;

/// Rows of the largest tile.
pub(super) const ROWS: usize = 12;

/// The left operand as the micro-kernels read it.
pub(super) enum Rows<'a> {
    F32 {
        data: &'a [f32],
        stride: usize,
    },
    /// bf16 pairs along the depth.
    Pairs {
        data: &'a [f32],
        stride: usize,
    },
}

/// What all tiles of one block and depth share.
pub(super) struct Call<'a> {
    pub(super) packed: &'a [f32],
    pub(super) depth: usize,
    pub(super) length: usize,
    pub(super) scale: f32,
    pub(super) add: bool,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
}

/// One tile: pointers to its first elements.
struct Tile {
    left: *const f32,
    left_stride: usize,
    panel: *const f32,
    steps: usize,
    out: *mut f32,
    out_stride: usize,
    width: usize,
    scale: f32,
    add: bool,
}

/// Runs every tile of a block.
///
/// # Safety
/// The block must lie inside the output, the panels must cover its columns at `length`, the left rows must
/// reach `depth + length`, and no other thread may write the block.
pub(super) unsafe fn run(rows: &Rows<'_>, block: &Block, call: &Call<'_>) {
    let isa = Isa::current();
    let (data, stride, depth, steps, halves) = match *rows {
        Rows::F32 { data, stride } => (data, stride, call.depth, call.length, false),
        // blocks are DEPTH deep, which is even, so a block starts on a whole pair
        Rows::Pairs { data, stride } => (data, stride, call.depth / 2, call.length.div_ceil(2), true),
    };
    let height = if matches!(isa, Isa::Avx512 | Isa::Avx512Bf16) {
        ROWS
    } else {
        4
    };
    for row in (0..block.rows).step_by(height) {
        let count = height.min(block.rows - row);
        for (index, panel) in call.packed.chunks_exact(steps * PANEL).enumerate() {
            let column = index * PANEL;
            let tile = Tile {
                // SAFETY: the row and depth are inside the operand, as the caller promises.
                left: unsafe { data.as_ptr().add((block.first_row + row) * stride + depth) },
                left_stride: stride,
                panel: panel.as_ptr(),
                steps,
                // SAFETY: the element is inside the output, as the caller promises.
                out: unsafe {
                    call.out
                        .add((block.first_row + row) * call.out_stride + block.first_column + column)
                },
                out_stride: call.out_stride,
                width: PANEL.min(block.columns - column),
                scale: call.scale,
                add: call.add,
            };
            // SAFETY: the tile's pointers were derived above; `isa` is what the machine has.
            unsafe { tile.dispatch(isa, halves, count) };
        }
    }
}

/// Calls a kernel that is generic over its number of rows.
macro_rules! by_rows {
    ($count:expr, $kernel:ident, $tile:expr, $($rows:literal)*) => {
        match $count {
            $($rows => $kernel::<$rows>($tile),)*
            rows => unreachable!("a tile has at most {ROWS} rows, got {rows}"),
        }
    };
}

impl Tile {
    /// # Safety
    /// The pointers must be valid for `count` rows, and the machine must have `isa`.
    unsafe fn dispatch(&self, isa: Isa, halves: bool, count: usize) {
        // SAFETY: the caller's promise covers every kernel below.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Bf16 if halves => by_rows!(count, avx512_bf16, self, 1 2 3 4 5 6 7 8 9 10 11 12),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 | Isa::Avx512Bf16 => by_rows!(count, avx512, self, 1 2 3 4 5 6 7 8 9 10 11 12),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => by_rows!(count, avx2, self, 1 2 3 4),
                _ => by_rows!(count, portable, self, 1 2 3 4),
            }
        }
    }

    /// Writes sums of one row to the output.
    ///
    /// # Safety
    /// `row` must be a row of the tile.
    #[inline(always)]
    unsafe fn store(&self, row: usize, first: usize, sums: &[f32]) {
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

/// The twin of every other path: multiply, then add.
///
/// # Safety
/// The tile's pointers must be valid for `R` rows.
unsafe fn portable<const R: usize>(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { plain::<R>(tile, |a, b, c| a * b + c) }
}

/// # Safety
/// As [`portable`], on a machine with AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const R: usize>(tile: &Tile) {
    // SAFETY: the caller's promise.
    unsafe { plain::<R>(tile, f32::mul_add) }
}

/// # Safety
/// The tile's pointers must be valid for `R` rows.
#[inline(always)]
unsafe fn plain<const R: usize>(tile: &Tile, fused: impl Fn(f32, f32, f32) -> f32) {
    // sixteen columns at a time: the accumulators of four rows stay in registers
    for first in [0, PANEL / 2] {
        if first >= tile.width {
            return;
        }
        let mut sums = [[0.0f32; PANEL / 2]; R];
        for step in 0..tile.steps {
            // SAFETY: the panel has `steps` rows of PANEL columns.
            let panel = unsafe { std::slice::from_raw_parts(tile.panel.add(step * PANEL + first), PANEL / 2) };
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: row and step are inside the left operand.
                let left = unsafe { *tile.left.add(row * tile.left_stride + step) };
                for (sum, &right) in sums.iter_mut().zip(panel) {
                    *sum = fused(left, right, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            // SAFETY: `row` is inside the tile.
            unsafe { tile.store(row, first, sums) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512, __m512bh, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

/// # Safety
/// As [`portable`], on a machine with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const R: usize>(tile: &Tile) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for step in 0..tile.steps {
        // SAFETY: the panel has `steps` rows of 32 columns, and rows and steps are inside the left operand.
        unsafe {
            let right = [
                _mm512_loadu_ps(tile.panel.add(step * PANEL)),
                _mm512_loadu_ps(tile.panel.add(step * PANEL + 16)),
            ];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = _mm512_set1_ps(*tile.left.add(row * tile.left_stride + step));
                sums[0] = _mm512_fmadd_ps(left, right[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(left, right[1], sums[1]);
            }
        }
    }
    // SAFETY: the sums belong to this tile.
    unsafe { store512(tile, &sums) };
}

/// # Safety
/// As [`portable`], on a machine with AVX512-BF16; the left operand and the panel hold bf16 pairs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16<const R: usize>(tile: &Tile) {
    let pairs = |value: __m512| -> __m512bh {
        // SAFETY: both are 64 plain bytes.
        unsafe { std::mem::transmute(value) }
    };
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for step in 0..tile.steps {
        // SAFETY: as in `avx512`.
        unsafe {
            let right = [
                pairs(_mm512_loadu_ps(tile.panel.add(step * PANEL))),
                pairs(_mm512_loadu_ps(tile.panel.add(step * PANEL + 16))),
            ];
            for (row, sums) in sums.iter_mut().enumerate() {
                let left = pairs(_mm512_set1_ps(*tile.left.add(row * tile.left_stride + step)));
                sums[0] = _mm512_dpbf16_ps(sums[0], left, right[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], left, right[1]);
            }
        }
    }
    // SAFETY: the sums belong to this tile.
    unsafe { store512(tile, &sums) };
}

/// # Safety
/// The tile's output must be valid for `R` rows, on a machine with AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn store512<const R: usize>(tile: &Tile, sums: &[[__m512; 2]; R]) {
    let scale = _mm512_set1_ps(tile.scale);
    for (row, sums) in sums.iter().enumerate() {
        for (half, &sum) in sums.iter().enumerate() {
            let width = tile.width.saturating_sub(16 * half).min(16);
            let mask = ((1u32 << width) - 1) as u16;
            // SAFETY: the mask keeps the access inside the tile's columns.
            unsafe {
                let out = tile.out.wrapping_add(row * tile.out_stride + 16 * half);
                let value = if tile.add {
                    _mm512_fmadd_ps(scale, sum, _mm512_maskz_loadu_ps(mask, out))
                } else {
                    _mm512_mul_ps(scale, sum)
                };
                _mm512_mask_storeu_ps(out, mask, value);
            }
        }
    }
}
