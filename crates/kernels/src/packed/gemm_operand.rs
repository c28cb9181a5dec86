//! Packed weights as operands of `gemm`: their codes have the layout of its panels, so nothing is transposed.

use std::arch::x86_64::{
    __m512, __m512i, _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi32,
    _mm256_setzero_ps, _mm256_slli_epi32, _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps,
    _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_load_si512, _mm512_mul_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_srlv_epi32, _mm512_sub_epi32,
};

use super::{PackedFormat, PackedWeight, QUAD, ROWS, avx2, avx512::scales, weight::Scales};

/// A square of sixteen rows by sixteen inputs within one tile and block.
struct Square {
    block_index: usize,
    /// Its first input within the block.
    first: usize,
}

impl Square {
    /// The square that begins at element `start` of the row-major matrix. `None` if it is not in one tile and block, or if
    /// the format has a table of levels.
    fn at(weight: &PackedWeight, start: usize, stride: usize) -> Option<Self> {
        let (row, column) = (start / weight.columns, start % weight.columns);
        let aligned = row.is_multiple_of(ROWS) && column.is_multiple_of(16) && stride == weight.columns;
        if !aligned || weight.kind == PackedFormat::Nf4 {
            return None;
        }
        Some(Self {
            block_index: row / ROWS * weight.blocks() + column / weight.kind.block(),
            first: column % weight.kind.block(),
        })
    }
}

/// Where the code of an input lies: its line within the block, and its bits within a row's 32 bits.
fn bits(kind: PackedFormat, input: usize) -> (usize, i32, i32) {
    if kind == PackedFormat::Q8_0 {
        (input / QUAD, 8 * (input % QUAD) as i32, 255)
    } else {
        // the nibble of a byte
        (
            input / (2 * QUAD),
            (8 * (input % QUAD) + 4 * (input / QUAD % 2)) as i32,
            15,
        )
    }
}

/// The same of the bits that a code has beyond four.
fn upper_bits(kind: PackedFormat, input: usize) -> Option<(usize, i32, i32)> {
    let (first, byte) = (kind.nibble_lines(), 8 * (input % QUAD));
    match kind {
        PackedFormat::Q5K => Some((first, (byte + input / QUAD) as i32, 1)),
        PackedFormat::Q6K => Some((first + input / 16, (byte + input / QUAD % 4 * 2) as i32, 3)),
        _ => None,
    }
}

/// Sixteen inputs of sixteen rows, beginning at element `start` of the row-major matrix: vector `i` is input `i` of all
/// rows. `None` if they are not in one tile and block, or if the format has a table of levels or two levels of scales.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transposed_floats(weight: &PackedWeight, start: usize, stride: usize) -> Option<[__m512; 16]> {
    let Square { block_index, first } = Square::at(weight, start, stride)?;
    let kind = weight.kind;
    if kind.is_k() {
        return None;
    }
    let scale = scales(&weight.scales, block_index);
    let lines = &weight.codes[block_index * kind.lines()..][..kind.lines()];
    let mut values = [_mm512_setzero_ps(); 16];
    for (input, value) in (first..).zip(&mut values) {
        let (line, shift, mask) = bits(kind, input);
        // SAFETY: a line is one aligned vector.
        let codes = unsafe { _mm512_load_si512(std::ptr::from_ref(&lines[line]).cast()) };
        let code = _mm512_and_si512(
            _mm512_srlv_epi32(codes, _mm512_set1_epi32(shift)),
            _mm512_set1_epi32(mask),
        );
        let code = _mm512_sub_epi32(code, _mm512_set1_epi32(kind.offset()));
        *value = _mm512_mul_ps(_mm512_cvtepi32_ps(code), scale);
    }
    Some(values)
}

/// Same as [`transposed_floats`] with AVX2, stored in lines `out_stride` elements apart; false if it is `None`.
///
/// # Safety
/// AVX2 and F16C, and `out` must be valid for sixteen lines of sixteen floats.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(crate) unsafe fn store_transposed(
    weight: &PackedWeight,
    (start, stride): (usize, usize),
    (out, out_stride): (*mut f32, usize),
) -> bool {
    let Some(Square { block_index, first }) = Square::at(weight, start, stride) else {
        return false;
    };
    let kind = weight.kind;
    let lines = &weight.codes[block_index * kind.lines()..][..kind.lines()];
    let offset = _mm256_set1_epi32(kind.offset());
    for half in 0..ROWS / avx2::LANES {
        let (scale, minimum) = if let Scales::Units(scales) = &weight.scales {
            let units = &scales.units[weight.unit_index(block_index)..][..2];
            let parts = &scales.parts[block_index * 2..][..2];
            let [unit, minimum] = [0, 1].map(|level| avx2::halves_at(&units[level], half));
            let product = |unit, part| _mm256_mul_ps(unit, _mm256_cvtepi32_ps(part));
            if kind == PackedFormat::Q6K {
                // a scale for each half of the block
                (
                    product(unit, avx2::signed(&parts[first / 16], half)),
                    _mm256_setzero_ps(),
                )
            } else {
                (
                    product(unit, avx2::unsigned(&parts[0], half)),
                    product(minimum, avx2::unsigned(&parts[1], half)),
                )
            }
        } else {
            (
                avx2::scales(&weight.scales, block_index * ROWS + half * avx2::LANES),
                _mm256_setzero_ps(),
            )
        };
        for input in 0..16 {
            let (line, shift, mask) = bits(kind, first + input);
            let take = |line: usize, shift: i32, mask: i32| {
                let codes = _mm256_srlv_epi32(avx2::codes(&lines[line], half), _mm256_set1_epi32(shift));
                _mm256_and_si256(codes, _mm256_set1_epi32(mask))
            };
            let mut code = take(line, shift, mask);
            if let Some((line, shift, mask)) = upper_bits(kind, first + input) {
                code = _mm256_or_si256(code, _mm256_slli_epi32::<4>(take(line, shift, mask)));
            }
            let code = _mm256_cvtepi32_ps(_mm256_sub_epi32(code, offset));
            let value = _mm256_mul_ps(code, scale);
            let value = if kind.is_k() {
                _mm256_sub_ps(value, minimum)
            } else {
                value
            };
            // SAFETY: guaranteed by the caller.
            unsafe { _mm256_storeu_ps(out.add(input * out_stride + half * avx2::LANES), value) };
        }
    }
    true
}

/// Same as [`transposed_floats`] of 32 inputs: vector `i` is the pair of inputs `2i` and `2i + 1`, joined by `couple`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transposed_pairs(
    weight: &PackedWeight,
    start: usize,
    stride: usize,
    couple: impl Fn(__m512, __m512) -> __m512i,
) -> Option<[__m512i; 16]> {
    if start % weight.columns + 32 > weight.columns {
        return None;
    }
    let halves = [
        transposed_floats(weight, start, stride)?,
        transposed_floats(weight, start + 16, stride)?,
    ];
    let mut pairs = [_mm512_setzero_si512(); 16];
    for (pair, values) in pairs.iter_mut().zip(halves.as_flattened().as_chunks::<2>().0) {
        *pair = couple(values[0], values[1]);
    }
    Some(pairs)
}
