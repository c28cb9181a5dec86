//! Packing with AVX-512: loads tiles of 16 x 16 4-byte units from any storage format and transposes them.
//!
//! What this is not: code for the remainders, which callers pack without vectors.

use std::arch::x86_64::{
    __m128i, __m256i, __m512, __m512i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_loadu_si256, _mm512_and_si512,
    _mm512_castps_si512, _mm512_castsi256_si512, _mm512_castsi512_ps, _mm512_cvtepu8_epi32, _mm512_cvtepu8_epi64,
    _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_or_si512, _mm512_permutexvar_ps, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_slli_epi64, _mm512_srli_epi32, _mm512_srli_epi64,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::Tile16x16;
use crate::{
    Matrix, Nf4Matrix,
    nf4::{BLOCK, CODE},
    packed::{self, PackedWeight},
};

/// Runs a walk with the storage format known to the loop inside.
macro_rules! by_format {
    ($matrix:expr, |$known:ident| $work:expr) => {
        match $matrix {
            Matrix::F32(data) => {
                let $known = Matrix::F32(data);
                $work
            }
            Matrix::Bf16(data) => {
                let $known = Matrix::Bf16(data);
                $work
            }
            Matrix::Nf4(data) => {
                let $known = Matrix::Nf4(data);
                $work
            }
            Matrix::Packed(data) => {
                let $known = Matrix::Packed(data);
                $work
            }
        }
    };
}

/// Defines the walks for one kind of unit.
macro_rules! define_loads {
    ($features:literal, $unit:literal, $along:ident, $copy_columns:ident, $tiles:ident, $transpose_rows:ident, $transpose_columns:ident, $rows:ident) => {
        /// # Safety
        /// As the method of [`Tile16x16`] that calls it.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $transpose_rows(tile: &Tile16x16<'_>, out: *mut f32) {
            if let Matrix::Packed(tiles) = tile.matrix
                && let Some(lines) = $tiles(tiles, tile)
            {
                // SAFETY: the output has sixteen lines of sixteen units.
                return unsafe { store(lines, tile, out) };
            }
            let mut lines = [_mm512_setzero_si512(); 16];
            by_format!(
                tile.matrix,
                |matrix| for (line, target) in lines.iter_mut().enumerate() {
                    // SAFETY: the operand holds the square.
                    *target = unsafe { $along(matrix, tile.start + line * tile.stride) };
                }
            );
            // SAFETY: the output has sixteen lines of sixteen units.
            unsafe { store_transposed(lines, tile, out) };
        }

        /// # Safety
        /// As the method of [`Tile16x16`] that calls it.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $transpose_columns(tile: &Tile16x16<'_>, out: *mut f32) {
            let mut lines = [_mm512_setzero_si512(); 16];
            by_format!(
                tile.matrix,
                |matrix| for (line, target) in lines.iter_mut().enumerate() {
                    // SAFETY: the operand holds the square.
                    *target = unsafe { $copy_columns(matrix, tile.start + $unit * line * tile.stride, tile.stride) };
                }
            );
            // SAFETY: the output has sixteen lines of sixteen units.
            unsafe { store_transposed(lines, tile, out) };
        }

        /// # Safety
        /// As the method of [`Tile16x16`] that calls it.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $rows(tile: &Tile16x16<'_>, units: usize, out: *mut f32) {
            by_format!(tile.matrix, |matrix| for line in 0..units {
                // SAFETY: the operand holds the lines, and so does the output.
                unsafe {
                    let value = $copy_columns(matrix, tile.start + $unit * line * tile.stride, tile.stride);
                    _mm512_storeu_si512(out.add(line * tile.out_stride).cast(), value);
                }
            });
        }
    };
}

define_loads!(
    "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16",
    2,
    pairs_along,
    pairs_across,
    packed_pairs,
    transpose_rows_pairs,
    transpose_columns_pairs,
    copy_columns_pairs
);
define_loads!(
    "avx512f,avx512bw,avx512dq,avx512vl",
    1,
    floats_along,
    floats_across,
    packed_floats,
    transpose_rows_floats,
    transpose_columns_floats,
    copy_columns_floats
);

/// # Safety
/// The output must have sixteen lines of sixteen units.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_transposed(lines: [__m512i; 16], tile: &Tile16x16<'_>, out: *mut f32) {
    // SAFETY: guaranteed by the caller.
    unsafe { store(transpose(lines), tile, out) };
}

/// # Safety
/// Same as [`store_transposed`].
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(lines: [__m512i; 16], tile: &Tile16x16<'_>, out: *mut f32) {
    for (line, value) in lines.into_iter().enumerate() {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm512_storeu_si512(out.add(line * tile.out_stride).cast(), value) };
    }
}

/// A tile of a packed weight, whose layout is transposed already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn packed_floats(tiles: &PackedWeight, tile: &Tile16x16<'_>) -> Option<[__m512i; 16]> {
    let values = packed::transposed_floats(tiles, tile.start, tile.stride)?;
    let mut lines = [_mm512_setzero_si512(); 16];
    for (line, value) in lines.iter_mut().zip(values) {
        *line = _mm512_castps_si512(value);
    }
    Some(lines)
}

/// Same as [`packed_floats`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn packed_pairs(tiles: &PackedWeight, tile: &Tile16x16<'_>) -> Option<[__m512i; 16]> {
    packed::transposed_pairs(tiles, tile.start, tile.stride, |low, high| join_pairs(low, high))
}

/// Sixteen elements from `start` on, widened.
///
/// # Safety
/// The elements must exist, on a machine with AVX-512.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn floats_along(matrix: Matrix<'_>, start: usize) -> __m512i {
    // SAFETY: guaranteed by the caller.
    unsafe { _mm512_castps_si512(values(matrix, start)) }
}

/// Same as [`floats_along`]: one row is one unit.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn floats_across(matrix: Matrix<'_>, start: usize, _stride: usize) -> __m512i {
    // SAFETY: guaranteed by the caller.
    unsafe { floats_along(matrix, start) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn values(matrix: Matrix<'_>, start: usize) -> __m512 {
    // SAFETY: the caller promises that the elements exist.
    unsafe {
        match matrix {
            Matrix::F32(data) => _mm512_loadu_ps(data.as_ptr().add(start)),
            Matrix::Bf16(data) => {
                let halves = _mm256_loadu_si256(data.as_ptr().add(start).cast::<__m256i>());
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
            }
            Matrix::Nf4(matrix) => nf4_values(matrix, start),
            Matrix::Packed(matrix) => {
                let mut out = [0.0f32; 16];
                matrix.widen(start, &mut out);
                _mm512_loadu_ps(out.as_ptr())
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn nf4_values(matrix: &Nf4Matrix, start: usize) -> __m512 {
    if !start.is_multiple_of(2) || start % BLOCK > BLOCK - 16 {
        let mut out = [0.0f32; 16];
        matrix.decode(start, &mut out);
        // SAFETY: sixteen floats.
        return unsafe { _mm512_loadu_ps(out.as_ptr()) };
    }
    // SAFETY: eight bytes hold the sixteen codes that the caller promises.
    let bytes = unsafe { _mm_loadl_epi64(matrix.codes().as_ptr().add(start / 2).cast::<__m128i>()) };
    // byte b in each 64-bit lane becomes its high nibble below and its low nibble above
    let bytes = _mm512_cvtepu8_epi64(bytes);
    let low = _mm512_slli_epi64::<32>(_mm512_and_si512(bytes, _mm512_set1_epi64(15)));
    let codes = _mm512_or_si512(_mm512_srli_epi64::<4>(bytes), low);
    _mm512_mul_ps(
        _mm512_permutexvar_ps(codes, levels()),
        _mm512_set1_ps(matrix.absmax()[start / BLOCK]),
    )
}

#[inline]
#[target_feature(enable = "avx512f")]
fn levels() -> __m512 {
    // SAFETY: sixteen floats.
    unsafe { _mm512_loadu_ps(CODE.as_ptr()) }
}

/// Sixteen pairs behind each other: elements `start..start + 32`.
///
/// # Safety
/// The elements must exist, on a machine with AVX512-BF16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pairs_along(matrix: Matrix<'_>, start: usize) -> __m512i {
    // SAFETY: the caller promises that the elements exist.
    unsafe {
        match matrix {
            Matrix::Bf16(data) => _mm512_loadu_si512(data.as_ptr().add(start).cast()),
            Matrix::Nf4(matrix) if start.is_multiple_of(2) && start % BLOCK <= BLOCK - 32 => {
                // one byte is one pair
                let bytes = _mm_loadu_si128(matrix.codes().as_ptr().add(start / 2).cast());
                let bytes = _mm512_cvtepu8_epi32(bytes);
                let scale = _mm512_set1_ps(matrix.absmax()[start / BLOCK]);
                let first = _mm512_permutexvar_ps(_mm512_srli_epi32::<4>(bytes), levels());
                let second = _mm512_permutexvar_ps(_mm512_and_si512(bytes, _mm512_set1_epi32(15)), levels());
                join_pairs(_mm512_mul_ps(first, scale), _mm512_mul_ps(second, scale))
            }
            _ => {
                let (low, high) = (round(values(matrix, start)), round(values(matrix, start + 16)));
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
            }
        }
    }
}

/// Pairs of sixteen columns: element `start + c` below element `start + stride + c`.
///
/// # Safety
/// Same as [`pairs_along`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pairs_across(matrix: Matrix<'_>, start: usize, stride: usize) -> __m512i {
    // SAFETY: the caller promises that the elements exist.
    unsafe {
        if let Matrix::Bf16(data) = matrix {
            let low = _mm256_loadu_si256(data.as_ptr().add(start).cast());
            let high = _mm256_loadu_si256(data.as_ptr().add(start + stride).cast());
            return interleave(low, high);
        }
        join_pairs(values(matrix, start), values(matrix, start + stride))
    }
}

/// Sixteen pairs of two rounded vectors, `low` in the low halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn join_pairs(low: __m512, high: __m512) -> __m512i {
    interleave(round(low), round(high))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn interleave(low: __m256i, high: __m256i) -> __m512i {
    _mm512_or_si512(
        _mm512_cvtepu16_epi32(low),
        _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high)),
    )
}

/// Sixteen values as bf16, nearest and ties to even; subnormals become zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round(values: __m512) -> __m256i {
    // SAFETY: both are 32 plain bytes.
    unsafe { std::mem::transmute(_mm512_cvtneps_pbh(values)) }
}

/// Transposes a tile of 16 x 16 4-byte units.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut pairs = rows;
    // 2 x 2 squares within each 128-bit lane, then 4 x 4
    for i in (0..16).step_by(2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..16).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    // fours[4 g + c], lane l: column 4 l + c of rows 4 g..4 g + 4; now the lanes change places with g
    let mut out = fours;
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4::<0x88>(fours[c], fours[4 + c]); // lanes 0, 2 of g 0 and 1
        let high = _mm512_shuffle_i32x4::<0xdd>(fours[c], fours[4 + c]); // lanes 1, 3
        let low2 = _mm512_shuffle_i32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let high2 = _mm512_shuffle_i32x4::<0xdd>(fours[8 + c], fours[12 + c]);
        out[c] = _mm512_shuffle_i32x4::<0x88>(low, low2);
        out[8 + c] = _mm512_shuffle_i32x4::<0xdd>(low, low2);
        out[4 + c] = _mm512_shuffle_i32x4::<0x88>(high, high2);
        out[12 + c] = _mm512_shuffle_i32x4::<0xdd>(high, high2);
    }
    out
}
