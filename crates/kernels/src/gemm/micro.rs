//! The innermost loops: a tile of a few rows by one panel of 32 columns, or of 16 where registers are short.

#[cfg(simd_x86)]
mod avx2;

#[cfg(simd_x86)]
use self::avx2::multiply as avx2_fma;
use super::{Block, Format, left::Rows};
use crate::{
    Isa,
    micro_tile::{NARROW_PANEL, Tile},
};

/// Rows of the largest tile with AVX-512.
const ROWS: usize = 12;
/// Rows over which all panels of a block are multiplied before the next rows, where a panel is to stay in the L1 cache:
/// at the deepest they take 192 KiB, which with the panels fits in an L2 cache of 512 KiB.
const PASS: usize = 192;

/// The operands that all tiles of one block and depth share.
pub(super) struct Call<'a> {
    pub(super) packed: &'a [f32],
    /// First element along `k`, a whole unit.
    pub(super) depth: usize,
    /// Elements along `k`.
    pub(super) length: usize,
    pub(super) scale: f32,
    pub(super) add: bool,
    pub(super) out: *mut f32,
    pub(super) out_stride: usize,
}

/// Rows that one tile covers.
pub(super) fn height(format: Format) -> usize {
    match format.isa {
        Isa::Amx if format.pairs => 32,
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => ROWS,
        #[cfg(simd_x86)]
        Isa::Avx2 => avx2::ROWS,
        _ => 4,
    }
}

/// Runs every tile of a block.
///
/// # Safety
/// The block must lie inside the output, the panels must cover its columns at `length`, the left rows must
/// reach `depth + length`, no other thread may write the block, and the machine must have the format's level.
pub(super) unsafe fn run(rows: &Rows<'_>, format: Format, block: &Block, call: &Call<'_>) {
    let unit = format.unit();
    let (data, stride) = match *rows {
        Rows::F32 { data, stride } => (data.as_ptr(), stride),
        // an even stride and depth: every tile begins with a whole pair
        Rows::Bf16 { data, stride } => (data.as_ptr().cast::<f32>(), stride / 2),
    };
    let (depth, steps, height) = (call.depth / unit, format.units(call.length), height(format));
    let width = format.panel();
    let panels = block.columns.div_ceil(width);
    // wide panels come from the L2 cache for every tile, whose rows stay in the L1 cache; narrow ones stay there themselves
    let pass = if width == NARROW_PANEL {
        PASS / height * height
    } else {
        height
    };
    #[cfg(simd_x86)]
    let _tiles = format.tiles().then(crate::amx::Session::begin);
    for first in (0..block.rows).step_by(pass) {
        for (index, panel) in call.packed.chunks_exact(steps * width).enumerate().take(panels) {
            let column = index * width;
            for row in (first..block.rows.min(first + pass)).step_by(height) {
                let tile = Tile {
                    // SAFETY: the row and depth are inside the operand, as the caller promises.
                    left: unsafe { data.add((block.first_row + row) * stride + depth) },
                    left_stride: stride,
                    panel: panel.as_ptr(),
                    steps,
                    // SAFETY: the element is inside the output, as the caller promises.
                    out: unsafe {
                        call.out
                            .add((block.first_row + row) * call.out_stride + block.first_column + column)
                    },
                    out_stride: call.out_stride,
                    width: width.min(block.columns - column),
                    scale: call.scale,
                    add: call.add,
                };
                // SAFETY: the tile's pointers were derived above; the machine has the format's level.
                unsafe { dispatch(&tile, format, height.min(block.rows - row)) };
            }
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

/// # Safety
/// The pointers must be valid for `count` rows, and the machine must have the format's level.
unsafe fn dispatch(tile: &Tile, format: Format, count: usize) {
    // SAFETY: the guarantees of the caller cover every kernel below.
    unsafe {
        match format.isa {
            #[cfg(simd_x86)]
            Isa::Amx if format.pairs => crate::amx::multiply(tile, count),
            #[cfg(simd_x86)]
            Isa::Avx512Bf16 if format.pairs => by_rows!(count, avx512_bf16, tile, 1 2 3 4 5 6 7 8 9 10 11 12),
            #[cfg(simd_x86)]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => by_rows!(count, avx512, tile, 1 2 3 4 5 6 7 8 9 10 11 12),
            #[cfg(simd_x86)]
            Isa::Avx2 => by_rows!(count, avx2_fma, tile, 1 2 3 4 5 6),
            _ => by_rows!(count, portable, tile, 1 2 3 4),
        }
    }
}

/// The reference of all other paths: multiply, then add.
///
/// # Safety
/// The tile's pointers must be valid for `R` rows.
unsafe fn portable<const R: usize>(tile: &Tile) {
    // the accumulators of four rows stay in registers
    let mut sums = [[0.0f32; NARROW_PANEL]; R];
    for step in 0..tile.steps {
        // SAFETY: the panel has `steps` rows of sixteen columns.
        let panel = unsafe { std::slice::from_raw_parts(tile.panel.add(step * NARROW_PANEL), NARROW_PANEL) };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row and step are inside the left operand.
            let left = unsafe { tile.left.add(row * tile.left_stride + step).read_unaligned() };
            for (sum, &right) in sums.iter_mut().zip(panel) {
                // not fused: without FMA in the instruction set, `mul_add` is a call
                *sum += left * right;
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: `row` is inside the tile.
        unsafe { tile.store(row, 0, sums) };
    }
}

#[cfg(simd_x86)]
use crate::micro_tile::PANEL;

#[cfg(simd_x86)]
use std::arch::x86_64::{
    __m512, __m512bh, _MM_HINT_ET0, _mm_prefetch, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

/// Defines the loop over AVX-512 registers for one kind of unit. Sums are stored where they were made: handed to
/// another function they would have to lie in memory, which cost a tenth of the time of short products.
#[cfg(simd_x86)]
macro_rules! registers {
    ($(#[$meta:meta])* $name:ident, $features:literal, $multiply:expr) => {
        $(#[$meta])*
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize>(tile: &Tile) {
            let mut sums = [[_mm512_setzero_ps(); 2]; R];
            for row in 0..R {
                // the output's lines arrive while the sums are made; a hint may name any address
                let out = tile.out.wrapping_add(row * tile.out_stride);
                _mm_prefetch::<_MM_HINT_ET0>(out.cast());
                _mm_prefetch::<_MM_HINT_ET0>(out.wrapping_add(PANEL / 2).cast());
            }
            for step in 0..tile.steps {
                // SAFETY: the panel has `steps` rows of 32 columns, and rows and steps are inside the left operand.
                unsafe {
                    let right = [
                        _mm512_loadu_ps(tile.panel.add(step * PANEL)),
                        _mm512_loadu_ps(tile.panel.add(step * PANEL + PANEL / 2)),
                    ];
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let left = _mm512_set1_ps(tile.left.add(row * tile.left_stride + step).read_unaligned());
                        sums[0] = $multiply(left, right[0], sums[0]);
                        sums[1] = $multiply(left, right[1], sums[1]);
                    }
                }
            }
            let scale = _mm512_set1_ps(tile.scale);
            if tile.width == PANEL {
                for (row, sums) in sums.iter().enumerate() {
                    for (half, &sum) in sums.iter().enumerate() {
                        // SAFETY: the tile's rows have 32 columns in the output.
                        unsafe {
                            let out = tile.out.add(row * tile.out_stride + PANEL / 2 * half);
                            let value = if tile.add {
                                _mm512_fmadd_ps(scale, sum, _mm512_loadu_ps(out))
                            } else {
                                _mm512_mul_ps(scale, sum)
                            };
                            _mm512_storeu_ps(out, value);
                        }
                    }
                }
                return;
            }
            for (row, sums) in sums.iter().enumerate() {
                for (half, &sum) in sums.iter().enumerate() {
                    let width = tile.width.saturating_sub(PANEL / 2 * half).min(PANEL / 2);
                    let mask = ((1u32 << width) - 1) as u16;
                    // SAFETY: the mask keeps the access inside the tile's columns.
                    unsafe {
                        let out = tile.out.wrapping_add(row * tile.out_stride + PANEL / 2 * half);
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
    };
}

#[cfg(simd_x86)]
registers! {
    /// # Safety
    /// Same as [`portable`], on a machine with AVX-512.
    avx512, "avx512f", _mm512_fmadd_ps
}

#[cfg(simd_x86)]
registers! {
    /// # Safety
    /// Same as [`portable`], on a machine with AVX512-BF16; the left operand and the panel hold bf16 pairs.
    avx512_bf16, "avx512f,avx512bf16", multiply_pairs
}

/// `sum + left · right` of pairs of bf16.
#[cfg(simd_x86)]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_pairs(left: __m512, right: __m512, sum: __m512) -> __m512 {
    // SAFETY: all are 64 plain bytes.
    let pairs = |value: __m512| -> __m512bh { unsafe { std::mem::transmute(value) } };
    _mm512_dpbf16_ps(sum, pairs(left), pairs(right))
}
