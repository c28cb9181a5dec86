//! Scalar functions that the compiler can vectorize.

/// `e^x` to about 1e-7 relative: Cody–Waite reduction and a degree-6 polynomial.
/// Arguments below −87 give values that are zero for every use here.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // adding and subtracting 1.5 * 2^23 rounds to the nearest integer
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // 2^n by placing n in the exponent
    let exponent = (shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23;
    p * f32::from_bits(exponent)
}

/// The bits of `x` rounded to bf16, nearest and ties to even.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // the carry must not turn a NaN into an infinity
    if x.is_nan() { (bits >> 16) | 0x40 } else { rounded }
}

/// The logistic function.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Sum in sixteen running lanes, folded at the end: one fixed order on every instruction set.
#[inline(always)]
pub(crate) fn sum_by(n: usize, value: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let whole = n / 16 * 16;
    let mut i = 0;
    while i < whole {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += value(i + lane);
        }
        i += 16;
    }
    for (lane, total) in lanes.iter_mut().enumerate().take(n - whole) {
        *total += value(whole + lane);
    }
    fold(lanes)
}

/// The lanes' sum by halves, in one fixed order. Every half has a name of its own, which keeps them out of memory.
#[inline(always)]
pub(crate) fn fold(lanes: [f32; 16]) -> f32 {
    #[inline(always)]
    fn halve<const WIDTH: usize>(lanes: &[f32]) -> [f32; WIDTH] {
        std::array::from_fn(|lane| lanes[lane] + lanes[lane + WIDTH])
    }
    // without this the compiler carries the halving into the loop before and leaves vectors of two
    let lanes = std::hint::black_box(lanes);
    let [sum] = halve(&halve::<2>(&halve::<4>(&halve::<8>(&lanes))));
    sum
}

/// `Σ a·b` in the order of [`sum_by`]; `b` must be as long as `a`.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    for ((lane, a), b) in lanes.iter_mut().zip(rest_a).zip(rest_b) {
        *lane += a * b;
    }
    fold(lanes)
}

/// Same as [`dot`] to the bit: the compiler folds sixteen lanes through memory, this in registers.
///
/// # Safety
/// AVX2; `b` must be as long as `a`.
#[cfg(simd_x86)]
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::x86_64::{
        __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_setzero_ps,
    };
    let whole = a.len() / 16 * 16;
    if whole < a.len() {
        return dot(a, b);
    }
    let mut lanes: [__m256; 2] = [_mm256_setzero_ps(); 2];
    for at in (0..whole).step_by(16) {
        for (half, lanes) in lanes.iter_mut().enumerate() {
            // SAFETY: eight elements from here are inside both slices.
            let (a, b) = unsafe {
                let at = at + 8 * half;
                (_mm256_loadu_ps(a.as_ptr().add(at)), _mm256_loadu_ps(b.as_ptr().add(at)))
            };
            // not fused, as in `dot`
            *lanes = _mm256_add_ps(*lanes, _mm256_mul_ps(a, b));
        }
    }
    // by halves, as in `fold`
    let eight = _mm256_add_ps(lanes[0], lanes[1]);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_f64() {
        let mut x = -86.0f32;
        while x < 87.0 {
            let expected = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(relative < 4e-7, "exp({x}): relative error {relative}");
            x += 0.0137;
        }
    }

    #[cfg(simd_x86)]
    #[test]
    fn dots_in_registers_equal_those_folded_in_memory() {
        if !crate::Isa::Avx2.is_available() {
            return;
        }
        let stream = crate::random::Stream::new(&[1]);
        for length in [0, 7, 16, 64, 72, 128] {
            let [a, b] = [0, 1].map(|which| (0..length).map(|i| stream.normal(2 * i + which)).collect::<Vec<f32>>());
            // SAFETY: AVX2 was detected, and both are equally long.
            let ours = unsafe { dot_avx2(&a, &b) };
            assert_eq!(ours.to_bits(), dot(&a, &b).to_bits(), "{length}");
        }
    }
}
