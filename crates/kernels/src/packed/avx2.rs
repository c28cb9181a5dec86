//! Packed products with AVX2: eight rows in the lanes, four inputs per lane.
//!
//! `maddubs` multiplies an unsigned by a signed byte and adds two such products in 16 bits. Q4_0's codes are stored small
//! and positive, so a whole block is summed in 16 bits; for the other formats the weight's sign moves to the activation,
//! and two products of at most 128 · 127 fit.

mod k_quants;

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_load_si256,
    _mm256_loadu_ps, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_mullo_epi32, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_sign_epi8, _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_ps, _mm256_xor_si256,
};

use half::f16;
pub(super) use k_quants::{signed, unsigned};

use super::{
    Job, PackedFormat, QUAD, ROWS, Row,
    format::LEVELS,
    weight::{Line, Scales},
};

/// Rows in a vector.
pub(super) const LANES: usize = 8;

/// Halves of a line that one pass over a tile takes: both for few rows, whose sums then fit in registers.
const fn halves(rows: usize) -> usize {
    if rows <= 2 { 2 } else { 1 }
}

/// Same as [`Job::portable`].
///
/// # Safety
/// AVX2 and F16C.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn sums<const M: usize>(job: &Job<'_>, rows: [Row<'_>; M], sums: &mut [[f32; ROWS]; M]) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if halves(M) == 2 {
            pass::<M, 2>(job, rows, 0, sums);
        } else {
            pass::<M, 1>(job, rows, 0, sums);
            pass::<M, 1>(job, rows, 1, sums);
        }
    }
}

/// The sums of `H` halves of a tile's rows, from half `from` on.
///
/// # Safety
/// Same as [`sums`].
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn pass<const M: usize, const H: usize>(
    job: &Job<'_>,
    rows: [Row<'_>; M],
    from: usize,
    sums: &mut [[f32; ROWS]; M],
) {
    let (weight, kind) = (job.weight, job.weight.kind);
    let (blocks, block) = (weight.blocks(), kind.block());
    let lines = &weight.codes[job.tile * blocks * kind.lines()..][..blocks * kind.lines()];
    let mut totals = [[_mm256_setzero_ps(); H]; M];
    for at in 0..blocks {
        let lines = &lines[at * kind.lines()..][..kind.lines()];
        let inputs = rows.map(|row| row.values[at * block..][..block].as_ptr().cast());
        let block_index = job.tile * blocks + at;
        if let Scales::Units(scales) = &weight.scales {
            let units = &scales.units[weight.unit_index(block_index)..][..2];
            let parts = &scales.parts[block_index * 2..][..2];
            let least = rows.map(|row| row.sums[at]);
            // SAFETY: the lines are a block of codes of this format, and the inputs have as many bytes.
            let dots = unsafe {
                match kind {
                    PackedFormat::Q4K => k_quants::four_bits::<M, H>(lines, from, inputs, parts),
                    PackedFormat::Q5K => k_quants::five_bits::<M, H>(lines, from, inputs, parts),
                    _ => k_quants::six_bits::<M, H>(lines, from, inputs, parts),
                }
            };
            for half in 0..H {
                let [unit, minimum_unit] = [0, 1].map(|level| halves_at(&units[level], from + half));
                // Q6_K has no minima; its second line of parts are scales
                let minimum = (kind != PackedFormat::Q6K).then(|| unsigned(&parts[1], from + half));
                for m in 0..M {
                    // not fused, as in the scalar reference
                    let scale = _mm256_set1_ps(rows[m].scales[at]);
                    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[m][half]), _mm256_mul_ps(unit, scale));
                    totals[m][half] = _mm256_add_ps(totals[m][half], scaled);
                    if let Some(minimum) = minimum {
                        let least = _mm256_mullo_epi32(minimum, _mm256_set1_epi32(least[m]));
                        let least = _mm256_mul_ps(_mm256_cvtepi32_ps(least), _mm256_mul_ps(minimum_unit, scale));
                        totals[m][half] = _mm256_sub_ps(totals[m][half], least);
                    }
                }
            }
            continue;
        }
        // SAFETY: as above.
        let dots = unsafe {
            match kind {
                PackedFormat::Nf4 => nf4::<M, H>(lines, from, inputs),
                PackedFormat::Q8_0 => q8_0::<M, H>(lines, from, inputs),
                _ => {
                    let excess = rows.map(|row| _mm256_set1_epi32(-kind.offset() * row.sums[at]));
                    q4_0::<M, H>(lines, from, inputs, excess)
                }
            }
        };
        for half in 0..H {
            let weights = scales(&weight.scales, block_index * ROWS + (from + half) * LANES);
            for m in 0..M {
                // not fused, as in the scalar reference
                let scale = _mm256_mul_ps(weights, _mm256_set1_ps(rows[m].scales[at]));
                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[m][half]), scale);
                totals[m][half] = _mm256_add_ps(totals[m][half], scaled);
            }
        }
    }
    for (totals, sums) in totals.iter().zip(&mut *sums) {
        for (half, total) in totals.iter().enumerate() {
            // SAFETY: eight lanes into half of sixteen elements.
            unsafe { _mm256_storeu_ps(sums[(from + half) * LANES..].as_mut_ptr(), *total) };
        }
    }
}

/// Eight f16 of sixteen, widened.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn halves_at(values: &[f16; ROWS], half: usize) -> __m256 {
    // SAFETY: sixteen bytes of thirty-two.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(values[half * LANES..][..LANES].as_ptr().cast()) })
}

/// Eight scales.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn scales(scales: &Scales, first: usize) -> __m256 {
    // SAFETY: the slices are eight scales long.
    unsafe {
        match scales {
            Scales::Floats(scales) => _mm256_loadu_ps(scales[first..][..LANES].as_ptr()),
            Scales::Halves(scales) => _mm256_cvtph_ps(_mm_loadu_si128(scales[first..][..LANES].as_ptr().cast())),
            Scales::Units(_) => unreachable!("K-quants have two levels of scales"),
        }
    }
}

/// Half of a line.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn codes(line: &Line, half: usize) -> __m256i {
    // SAFETY: 32 bytes of a line, aligned as a line is.
    unsafe { _mm256_load_si256(line.0[half * LANES * QUAD..][..LANES * QUAD].as_ptr().cast()) }
}

/// Four inputs in every lane.
///
/// # Safety
/// `inputs` must have an element `at`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn quad(inputs: *const i32, at: usize) -> __m256i {
    // SAFETY: guaranteed by the caller.
    _mm256_set1_epi32(unsafe { inputs.add(at).read_unaligned() })
}

/// `sums + weights · inputs`, weights signed: the weight's sign moves to the activation.
#[inline]
#[target_feature(enable = "avx2")]
fn dot_signed(sums: __m256i, weights: __m256i, inputs: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(inputs, weights));
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// # Safety
/// Same as [`sums`]; the inputs must be 64 bytes each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nf4<const M: usize, const H: usize>(
    lines: &[Line],
    from: usize,
    inputs: [*const i32; M],
) -> [[__m256i; H]; M] {
    let low = _mm256_set1_epi8(15);
    let mut sums = [[_mm256_setzero_si256(); H]; M];
    // SAFETY: sixteen bytes of table.
    let table = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(LEVELS.as_ptr().cast())) };
    let table = _mm256_xor_si256(table, _mm256_set1_epi8(i8::MIN));
    for (at, line) in lines.iter().enumerate() {
        // SAFETY: guaranteed by the caller.
        let quads = inputs.map(|inputs| unsafe { (quad(inputs, 2 * at), quad(inputs, 2 * at + 1)) });
        for half in 0..H {
            let codes = codes(line, from + half);
            let first = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low));
            let second = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low));
            for (sums, (even, odd)) in sums.iter_mut().zip(quads) {
                sums[half] = dot_signed(dot_signed(sums[half], first, even), second, odd);
            }
        }
    }
    sums
}

/// # Safety
/// Same as [`sums`]; the inputs must be 32 bytes each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn q4_0<const M: usize, const H: usize>(
    lines: &[Line],
    from: usize,
    inputs: [*const i32; M],
    excess: [__m256i; M],
) -> [[__m256i; H]; M] {
    let low = _mm256_set1_epi8(15);
    // a lane's products of a block, sixteen of at most 15 · 127, fit in 16 bits
    let mut pairs = [[_mm256_setzero_si256(); H]; M];
    for (at, line) in lines.iter().enumerate() {
        // SAFETY: guaranteed by the caller.
        let quads = inputs.map(|inputs| unsafe { (quad(inputs, 2 * at), quad(inputs, 2 * at + 1)) });
        for half in 0..H {
            let codes = codes(line, from + half);
            let first = _mm256_and_si256(codes, low);
            let second = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low);
            for (pairs, (even, odd)) in pairs.iter_mut().zip(quads) {
                let both = _mm256_add_epi16(_mm256_maddubs_epi16(first, even), _mm256_maddubs_epi16(second, odd));
                pairs[half] = _mm256_add_epi16(pairs[half], both);
            }
        }
    }
    let mut sums = [[_mm256_setzero_si256(); H]; M];
    for m in 0..M {
        for half in 0..H {
            let dots = _mm256_madd_epi16(pairs[m][half], _mm256_set1_epi16(1));
            sums[m][half] = _mm256_add_epi32(dots, excess[m]);
        }
    }
    sums
}

/// # Safety
/// Same as [`sums`]; the inputs must be 32 bytes each.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn q8_0<const M: usize, const H: usize>(
    lines: &[Line],
    from: usize,
    inputs: [*const i32; M],
) -> [[__m256i; H]; M] {
    let mut sums = [[_mm256_setzero_si256(); H]; M];
    for (at, line) in lines.iter().enumerate() {
        // SAFETY: guaranteed by the caller.
        let quads = inputs.map(|inputs| unsafe { quad(inputs, at) });
        for half in 0..H {
            let weights = _mm256_xor_si256(codes(line, from + half), _mm256_set1_epi8(i8::MIN));
            for (sums, quad) in sums.iter_mut().zip(quads) {
                sums[half] = dot_signed(sums[half], weights, quad);
            }
        }
    }
    sums
}
