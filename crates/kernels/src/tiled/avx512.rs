//! Tiles by AVX-512 VNNI: sixteen rows in the lanes, four inputs a lane and instruction.

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16,
    _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::{BLOCK, Codes, Job, QUAD, ROWS};

/// Whether the machine multiplies 8-bit integers in AVX-512.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// As [`Job::portable`].
///
/// # Safety
/// AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn sums<const M: usize>(job: &Job<'_>, rows: [usize; M], sums: &mut [[f32; ROWS]; M]) {
    let mut totals = [_mm512_setzero_ps(); M];
    for block in 0..job.blocks() {
        let place = job.tile * job.blocks() + block;
        let inputs = rows.map(|row| job.activations.block(row, block));
        let values = inputs.map(|inputs| inputs.values.as_ptr().cast::<i32>());
        // SAFETY: a block of activations holds sixteen quads, a block of codes what its kind says.
        let dots: [__m512i; M] = unsafe {
            match &job.weight.codes {
                Codes::Four { bytes, table } => four(bytes[place * ROWS * BLOCK / 2..].as_ptr(), table, values),
                Codes::Eight { bytes } => eight(bytes[place * ROWS * BLOCK..].as_ptr(), values),
            }
        };
        // SAFETY: sixteen scales a block.
        let weights = unsafe { _mm512_loadu_ps(job.weight.scales[place * ROWS..][..ROWS].as_ptr()) };
        for m in 0..M {
            // the codes are stored plus 128
            let dot = _mm512_sub_epi32(dots[m], _mm512_set1_epi32(inputs[m].excess));
            // not fused, as the twin is not
            let scaled = _mm512_mul_ps(
                _mm512_cvtepi32_ps(dot),
                _mm512_mul_ps(weights, _mm512_set1_ps(inputs[m].scale)),
            );
            totals[m] = _mm512_add_ps(totals[m], scaled);
        }
    }
    for (total, sums) in totals.iter().zip(sums) {
        // SAFETY: sixteen lanes into sixteen elements.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) };
    }
}

/// # Safety
/// As [`sums`]; `bytes` must hold a block of 4-bit codes and `values` sixteen quads each.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn four<const M: usize>(bytes: *const u8, table: &[u8; 16], values: [*const i32; M]) -> [__m512i; M] {
    let low = _mm512_set1_epi8(15);
    let (mut even, mut odd) = ([_mm512_setzero_si512(); M], [_mm512_setzero_si512(); M]);
    // SAFETY: sixteen bytes of table; the caller's promise for the rest.
    unsafe {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast()));
        for group in 0..BLOCK / (2 * QUAD) {
            let codes = _mm512_loadu_si512(bytes.add(group * ROWS * QUAD).cast());
            let first = _mm512_shuffle_epi8(table, _mm512_and_si512(codes, low));
            let second = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low));
            for m in 0..M {
                let quad = |at: usize| _mm512_set1_epi32(values[m].add(at).read_unaligned());
                even[m] = _mm512_dpbusd_epi32(even[m], first, quad(2 * group));
                odd[m] = _mm512_dpbusd_epi32(odd[m], second, quad(2 * group + 1));
            }
        }
    }
    std::array::from_fn(|m| _mm512_add_epi32(even[m], odd[m]))
}

/// # Safety
/// As [`four`], with 8-bit codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn eight<const M: usize>(bytes: *const u8, values: [*const i32; M]) -> [__m512i; M] {
    let (mut even, mut odd) = ([_mm512_setzero_si512(); M], [_mm512_setzero_si512(); M]);
    for group in (0..BLOCK / QUAD).step_by(2) {
        // SAFETY: the caller's promise.
        unsafe {
            let first = _mm512_loadu_si512(bytes.add(group * ROWS * QUAD).cast());
            let second = _mm512_loadu_si512(bytes.add((group + 1) * ROWS * QUAD).cast());
            for m in 0..M {
                let quad = |at: usize| _mm512_set1_epi32(values[m].add(at).read_unaligned());
                even[m] = _mm512_dpbusd_epi32(even[m], first, quad(group));
                odd[m] = _mm512_dpbusd_epi32(odd[m], second, quad(group + 1));
            }
        }
    }
    std::array::from_fn(|m| _mm512_add_epi32(even[m], odd[m]))
}
