//! ggml's K-quants with AVX2: dot products of a block, multiplied by its whole-number scales.
//!
//! What this is not: the walk over blocks and the scales in floating point, which the parent has.

use std::arch::x86_64::{
    __m256i, _mm_loadl_epi64, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_cvtepi8_epi32, _mm256_cvtepu8_epi32, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mullo_epi32,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_slli_epi16,
    _mm256_srli_epi16, _mm256_sub_epi8,
};

use super::{LANES, Line, ROWS, codes, quad};

/// Eight bytes of sixteen, widened without sign.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn unsigned(parts: &[u8; ROWS], half: usize) -> __m256i {
    // SAFETY: eight bytes of sixteen.
    _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(parts[half * LANES..][..LANES].as_ptr().cast()) })
}

/// Same as [`unsigned`] with sign.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn signed(parts: &[u8; ROWS], half: usize) -> __m256i {
    // SAFETY: eight bytes of sixteen.
    _mm256_cvtepi8_epi32(unsafe { _mm_loadl_epi64(parts[half * LANES..][..LANES].as_ptr().cast()) })
}

/// Sums of two 16-bit numbers of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn join(pairs: __m256i) -> __m256i {
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// The nibbles of half a line: of the inputs `8v + j`, and of `8v + 4 + j`.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(line: &Line, half: usize) -> [__m256i; 2] {
    let (codes, low) = (codes(line, half), _mm256_set1_epi8(15));
    [
        _mm256_and_si256(codes, low),
        _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low),
    ]
}

/// Products of two quads of inputs with codes of at most 31, in pairs of 16 bits.
///
/// # Safety
/// `inputs` must have the elements `2 v` and `2 v + 1`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn two_quads([first, second]: [__m256i; 2], inputs: *const i32, v: usize) -> __m256i {
    // SAFETY: guaranteed by the caller.
    let (even, odd) = unsafe { (quad(inputs, 2 * v), quad(inputs, 2 * v + 1)) };
    _mm256_add_epi16(_mm256_maddubs_epi16(first, even), _mm256_maddubs_epi16(second, odd))
}

/// Codes from −32 to 31 of nibbles and of bits 4 and 5.
#[inline]
#[target_feature(enable = "avx2")]
fn six(low: __m256i, high: __m256i) -> __m256i {
    let high = _mm256_and_si256(high, _mm256_set1_epi8(48));
    _mm256_sub_epi8(_mm256_or_si256(low, high), _mm256_set1_epi8(32))
}

/// Products of a quad of inputs with signed codes, in pairs of 16 bits: the sign moves to the input.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_products(codes: __m256i, inputs: __m256i) -> __m256i {
    _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(inputs, codes))
}

/// Q4_K: four lines of nibbles.
///
/// # Safety
/// AVX2; a block's lines, 32 bytes of inputs each, and its two lines of scales.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn four_bits<const M: usize, const H: usize>(
    lines: &[Line],
    from: usize,
    inputs: [*const i32; M],
    parts: &[[u8; ROWS]],
) -> [[__m256i; H]; M] {
    let mut dots = [[_mm256_setzero_si256(); H]; M];
    for half in 0..H {
        // a lane's products of a block, sixteen of at most 15 · 127, fit in 16 bits
        let mut pairs = [_mm256_setzero_si256(); M];
        for (v, line) in lines.iter().enumerate() {
            let codes = nibbles(line, from + half);
            for (pairs, inputs) in pairs.iter_mut().zip(inputs) {
                // SAFETY: guaranteed by the caller.
                *pairs = _mm256_add_epi16(*pairs, unsafe { two_quads(codes, inputs, v) });
            }
        }
        let scale = unsigned(&parts[0], from + half);
        for (dots, pairs) in dots.iter_mut().zip(pairs) {
            dots[half] = _mm256_mullo_epi32(join(pairs), scale);
        }
    }
    dots
}

/// Q5_K: four lines of nibbles, one of fifth bits.
///
/// # Safety
/// Same as [`four_bits`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn five_bits<const M: usize, const H: usize>(
    lines: &[Line],
    from: usize,
    inputs: [*const i32; M],
    parts: &[[u8; ROWS]],
) -> [[__m256i; H]; M] {
    let fifth = _mm256_set1_epi8(16);
    let mut dots = [[_mm256_setzero_si256(); H]; M];
    for half in 0..H {
        // bits 0 and 1 of a byte belong to the line at hand
        let mut upper = codes(&lines[4], from + half);
        let mut sums = [_mm256_setzero_si256(); M];
        let mut pairs = [_mm256_setzero_si256(); M];
        for (v, line) in lines[..4].iter().enumerate() {
            let [first, second] = nibbles(line, from + half);
            let codes = [
                _mm256_or_si256(first, _mm256_and_si256(_mm256_slli_epi16::<4>(upper), fifth)),
                _mm256_or_si256(second, _mm256_and_si256(_mm256_slli_epi16::<3>(upper), fifth)),
            ];
            upper = _mm256_srli_epi16::<2>(upper);
            for m in 0..M {
                // SAFETY: guaranteed by the caller.
                let products = unsafe { two_quads(codes, inputs[m], v) };
                // eight products of at most 31 · 127 fit in 16 bits, sixteen do not
                if v % 2 == 0 {
                    pairs[m] = products;
                } else {
                    sums[m] = _mm256_add_epi32(sums[m], join(_mm256_add_epi16(pairs[m], products)));
                }
            }
        }
        let scale = unsigned(&parts[0], from + half);
        for (dots, sums) in dots.iter_mut().zip(sums) {
            dots[half] = _mm256_mullo_epi32(sums, scale);
        }
    }
    dots
}

/// Q6_K: four lines of nibbles, two of upper pairs; a scale for each half of the block.
///
/// # Safety
/// Same as [`four_bits`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn six_bits<const M: usize, const H: usize>(
    lines: &[Line],
    from: usize,
    inputs: [*const i32; M],
    parts: &[[u8; ROWS]],
) -> [[__m256i; H]; M] {
    let mut dots = [[_mm256_setzero_si256(); H]; M];
    for half in 0..H {
        for side in 0..2 {
            // bits 0 to 3 of a byte belong to the line at hand
            let mut upper = codes(&lines[4 + side], from + half);
            let mut sums = [_mm256_setzero_si256(); M];
            for (v, line) in lines.iter().enumerate().skip(2 * side).take(2) {
                let [first, second] = nibbles(line, from + half);
                let first = six(first, _mm256_slli_epi16::<4>(upper));
                let second = six(second, _mm256_slli_epi16::<2>(upper));
                upper = _mm256_srli_epi16::<4>(upper);
                for (sums, inputs) in sums.iter_mut().zip(inputs) {
                    // SAFETY: guaranteed by the caller.
                    let (even, odd) = unsafe { (quad(inputs, 2 * v), quad(inputs, 2 * v + 1)) };
                    // four products of at most 32 · 127 fit in 16 bits
                    let pairs = _mm256_add_epi16(signed_products(first, even), signed_products(second, odd));
                    *sums = _mm256_add_epi32(*sums, join(pairs));
                }
            }
            let scale = signed(&parts[side], from + half);
            for (dots, sums) in dots.iter_mut().zip(sums) {
                dots[half] = _mm256_add_epi32(dots[half], _mm256_mullo_epi32(sums, scale));
            }
        }
    }
    dots
}
