//! Tiles by AVX2: eight rows in the lanes, four inputs a lane.
//!
//! The unit multiplies an unsigned by a signed byte and adds two such products into 16 bits. So a weight's sign
//! moves to the activation, and two products of at most 127 · 127 fit.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_abs_epi8, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cvtepi32_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sign_epi8, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_xor_si256,
};

use super::{BLOCK, Codes, Job, QUAD, ROWS};

/// Rows in a vector.
const LANES: usize = 8;

/// As [`Job::portable`].
///
/// # Safety
/// AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn sums<const M: usize>(job: &Job<'_>, rows: [usize; M], sums: &mut [[f32; ROWS]; M]) {
    for half in 0..ROWS / LANES {
        let mut totals = [_mm256_setzero_ps(); M];
        for block in 0..job.blocks() {
            let place = job.tile * job.blocks() + block;
            let inputs = rows.map(|row| job.activations.block(row, block));
            let values = inputs.map(|inputs| inputs.values.as_ptr().cast::<i32>());
            let lanes = half * LANES * QUAD;
            // SAFETY: a block of activations holds sixteen quads, a block of codes what its kind says.
            let dots: [__m256i; M] = unsafe {
                match &job.weight.codes {
                    Codes::Four { bytes, table } => {
                        four(bytes[place * ROWS * BLOCK / 2 + lanes..].as_ptr(), table, values)
                    }
                    Codes::Eight { bytes } => eight(bytes[place * ROWS * BLOCK + lanes..].as_ptr(), values),
                }
            };
            // SAFETY: sixteen scales a block, eight a half.
            let weights =
                unsafe { _mm256_loadu_ps(job.weight.scales[place * ROWS + half * LANES..][..LANES].as_ptr()) };
            for m in 0..M {
                // not fused, as the twin is not
                let scale = _mm256_mul_ps(weights, _mm256_set1_ps(inputs[m].scale));
                totals[m] = _mm256_add_ps(totals[m], _mm256_mul_ps(_mm256_cvtepi32_ps(dots[m]), scale));
            }
        }
        for (total, sums) in totals.iter().zip(&mut *sums) {
            // SAFETY: eight lanes into half of sixteen elements.
            unsafe { _mm256_storeu_ps(sums[half * LANES..].as_mut_ptr(), *total) };
        }
    }
}

/// `sums + weights · quad`, weights signed.
#[inline]
#[target_feature(enable = "avx2")]
fn dot(sums: __m256i, weights: __m256i, quad: i32) -> __m256i {
    let signed = _mm256_sign_epi8(_mm256_set1_epi32(quad), weights);
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), signed);
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// # Safety
/// As [`sums`]; `bytes` must hold a block of 4-bit codes from the half's first row on, and `values` sixteen quads each.
#[target_feature(enable = "avx2")]
unsafe fn four<const M: usize>(bytes: *const u8, table: &[u8; 16], values: [*const i32; M]) -> [__m256i; M] {
    let low = _mm256_set1_epi8(15);
    let mut sums = [_mm256_setzero_si256(); M];
    // SAFETY: sixteen bytes of table; the caller's promise for the rest.
    unsafe {
        let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast()));
        let table = _mm256_xor_si256(table, _mm256_set1_epi8(i8::MIN));
        for group in 0..BLOCK / (2 * QUAD) {
            let codes = _mm256_loadu_si256(bytes.add(group * ROWS * QUAD).cast());
            let first = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low));
            let second = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low));
            for m in 0..M {
                sums[m] = dot(sums[m], first, values[m].add(2 * group).read_unaligned());
                sums[m] = dot(sums[m], second, values[m].add(2 * group + 1).read_unaligned());
            }
        }
    }
    sums
}

/// # Safety
/// As [`four`], with 8-bit codes.
#[target_feature(enable = "avx2")]
unsafe fn eight<const M: usize>(bytes: *const u8, values: [*const i32; M]) -> [__m256i; M] {
    let mut sums = [_mm256_setzero_si256(); M];
    for group in 0..BLOCK / QUAD {
        // SAFETY: the caller's promise.
        unsafe {
            let codes = _mm256_loadu_si256(bytes.add(group * ROWS * QUAD).cast());
            let weights = _mm256_xor_si256(codes, _mm256_set1_epi8(i8::MIN));
            for m in 0..M {
                sums[m] = dot(sums[m], weights, values[m].add(group).read_unaligned());
            }
        }
    }
    sums
}
