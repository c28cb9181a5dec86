//! Packing with AVX2: loads tiles of 16 x 16 floats from any storage format and transposes them.
//!
//! What this is not: code for the remainders, which callers pack without vectors.

use std::arch::x86_64::{
    __m256, _mm_loadu_si128, _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_loadu_ps,
    _mm256_mul_ps, _mm256_permute2f128_ps, _mm256_permutevar8x32_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setr_epi32, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_srlv_epi32, _mm256_storeu_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

use super::Tile16x16;
use crate::{
    Matrix, Nf4Matrix,
    nf4::{BLOCK, CODE},
    packed,
};

/// Floats of a register.
const LANES: usize = 8;

/// Same as [`Tile16x16::transpose_rows`].
///
/// # Safety
/// Same as [`Tile16x16::transpose_rows`], on a machine with AVX2 and FMA.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn transpose_rows(tile: &Tile16x16<'_>, out: *mut f32) {
    // SAFETY: the operand holds the square, and the output sixteen lines of sixteen units.
    unsafe {
        // the layout of a packed weight is transposed already
        if let Matrix::Packed(weight) = tile.matrix
            && packed::store_transposed(weight, (tile.start, tile.stride), (out, tile.out_stride))
        {
            return;
        }
        for (row, unit) in [(0, 0), (0, LANES), (LANES, 0), (LANES, LANES)] {
            let mut lines = [_mm256_setzero_ps(); LANES];
            for (line, target) in lines.iter_mut().enumerate() {
                *target = values(tile.matrix, tile.start + (row + line) * tile.stride + unit);
            }
            for (line, value) in transpose(lines).into_iter().enumerate() {
                _mm256_storeu_ps(out.add((unit + line) * tile.out_stride + row), value);
            }
        }
    }
}

/// Same as [`Tile16x16::copy_columns`].
///
/// # Safety
/// Same as [`Tile16x16::copy_columns`], on a machine with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn copy_columns(tile: &Tile16x16<'_>, units: usize, out: *mut f32) {
    for line in 0..units {
        // SAFETY: the operand holds the lines, and so does the output.
        unsafe {
            let start = tile.start + line * tile.stride;
            let out = out.add(line * tile.out_stride);
            _mm256_storeu_ps(out, values(tile.matrix, start));
            _mm256_storeu_ps(out.add(LANES), values(tile.matrix, start + LANES));
        }
    }
}

/// Eight elements from `start` on, widened.
///
/// # Safety
/// The elements must exist, on a machine with AVX2.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn values(matrix: Matrix<'_>, start: usize) -> __m256 {
    // SAFETY: the caller promises that the elements exist.
    unsafe {
        match matrix {
            Matrix::F32(data) => _mm256_loadu_ps(data.as_ptr().add(start)),
            Matrix::Bf16(data) => {
                let halves = _mm_loadu_si128(data.as_ptr().add(start).cast());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
            }
            Matrix::Nf4(matrix) => nf4_values(matrix, start),
            Matrix::Packed(matrix) => {
                let mut out = [0.0f32; LANES];
                matrix.widen(start, &mut out);
                _mm256_loadu_ps(out.as_ptr())
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn nf4_values(matrix: &Nf4Matrix, start: usize) -> __m256 {
    if !start.is_multiple_of(2) || start % BLOCK > BLOCK - LANES {
        let mut out = [0.0f32; LANES];
        matrix.decode(start, &mut out);
        // SAFETY: eight floats.
        return unsafe { _mm256_loadu_ps(out.as_ptr()) };
    }
    // SAFETY: four bytes hold the eight codes that the caller promises.
    let bytes = unsafe { matrix.codes().as_ptr().add(start / 2).cast::<u32>().read_unaligned() };
    // the high nibble of a byte comes first
    let shifts = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
    let codes = _mm256_srlv_epi32(_mm256_set1_epi32(bytes.cast_signed()), shifts);
    // SAFETY: sixteen floats.
    let (lower, upper) = unsafe {
        (
            _mm256_loadu_ps(CODE.as_ptr()),
            _mm256_loadu_ps(CODE.as_ptr().add(LANES)),
        )
    };
    // a lookup reads the lowest three bits of a lane, a blend its sign: bit 3 of the code
    let level = _mm256_blendv_ps(
        _mm256_permutevar8x32_ps(lower, codes),
        _mm256_permutevar8x32_ps(upper, codes),
        _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes)),
    );
    _mm256_mul_ps(level, _mm256_set1_ps(matrix.absmax()[start / BLOCK]))
}

/// Transposes a square of 8 x 8 floats.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256; LANES]) -> [__m256; LANES] {
    let mut pairs = rows;
    // 2 x 2 squares within each 128-bit lane, then 4 x 4, then the lanes change places
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..LANES).step_by(4) {
        fours[i] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_shuffle_ps::<0xee>(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_shuffle_ps::<0x44>(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_shuffle_ps::<0xee>(pairs[i + 1], pairs[i + 3]);
    }
    let mut out = fours;
    for i in 0..4 {
        out[i] = _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]);
        out[i + 4] = _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]);
    }
    out
}
