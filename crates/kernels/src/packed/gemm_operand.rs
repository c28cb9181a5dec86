//! Packed weights as operands of `gemm`: their codes have the layout of its panels, so nothing is transposed.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_load_si512, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srlv_epi32, _mm512_sub_epi32,
};

use super::{PackedFormat, PackedWeight, QUAD, ROWS, avx512::scales};

/// Sixteen inputs of sixteen rows, beginning at element `start` of the row-major matrix: vector `i` is input `i` of all
/// rows. `None` if they are not in one tile and block, or if the format has a table of levels.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transposed_floats(weight: &PackedWeight, start: usize, stride: usize) -> Option<[__m512; 16]> {
    let (row, column) = (start / weight.columns, start % weight.columns);
    let aligned = row.is_multiple_of(ROWS) && column.is_multiple_of(16) && stride == weight.columns;
    if !aligned || weight.kind == PackedFormat::Nf4 {
        return None;
    }
    let kind = weight.kind;
    let block_index = row / ROWS * weight.blocks() + column / kind.block();
    let scale = scales(&weight.scales, block_index);
    let lines = &weight.codes[block_index * kind.lines()..][..kind.lines()];
    let first = column % kind.block();
    let mut values = [_mm512_setzero_ps(); 16];
    for (input, value) in (first..).zip(&mut values) {
        // one byte of every lane, or a nibble of it for 4-bit codes
        let (line, shift, mask) = if kind == PackedFormat::Q8_0 {
            (input / QUAD, 8 * (input % QUAD), 255)
        } else {
            (input / (2 * QUAD), 8 * (input % QUAD) + 4 * (input / QUAD % 2), 15)
        };
        // SAFETY: a line is one aligned vector.
        let codes = unsafe { _mm512_load_si512(std::ptr::from_ref(&lines[line]).cast()) };
        let code = _mm512_and_si512(
            _mm512_srlv_epi32(codes, _mm512_set1_epi32(shift as i32)),
            _mm512_set1_epi32(mask),
        );
        let code = _mm512_sub_epi32(code, _mm512_set1_epi32(kind.offset()));
        *value = _mm512_mul_ps(_mm512_cvtepi32_ps(code), scale);
    }
    Some(values)
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
