//! Packed products with AVX-512 VNNI: sixteen rows in the lanes, four inputs per lane and instruction.

use std::arch::x86_64::{
    __m512, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_broadcast_i32x4, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32, _mm512_load_si512,
    _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_storeu_ps,
};

use super::{
    Job, PackedFormat, ROWS, Row,
    format::LEVELS,
    weight::{Line, Scales},
};

/// Whether the machine multiplies 8-bit integers in AVX-512.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// Same as [`Job::portable`].
///
/// # Safety
/// AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn sums<const M: usize>(job: &Job<'_>, rows: [Row<'_>; M], sums: &mut [[f32; ROWS]; M]) {
    let blocks = job.weight.blocks();
    let part = job.tile * blocks * ROWS..(job.tile + 1) * blocks * ROWS;
    // SAFETY: guaranteed by the caller; a tile's scales are sixteen a block.
    unsafe {
        match &job.weight.scales {
            Scales::Floats(scales) => {
                let scales = scales[part].as_ptr();
                let scale = |block: usize| _mm512_loadu_ps(scales.add(block * ROWS));
                walk(job, PackedFormat::Nf4, (rows, scale), sums, |lines, inputs, dots| {
                    nf4(lines, inputs, dots)
                });
            }
            Scales::Halves(scales) => {
                let scales = scales[part].as_ptr();
                let scale = |block: usize| _mm512_cvtph_ps(_mm256_loadu_si256(scales.add(block * ROWS).cast()));
                if job.weight.kind == PackedFormat::Q4_0 {
                    walk(job, PackedFormat::Q4_0, (rows, scale), sums, |lines, inputs, dots| {
                        q4_0(lines, inputs, dots)
                    });
                } else {
                    walk(job, PackedFormat::Q8_0, (rows, scale), sums, |lines, inputs, dots| {
                        q8_0(lines, inputs, dots)
                    });
                }
            }
            Scales::Units(_) => unreachable!("K-quants are multiplied with AVX2"),
        }
    }
}

/// All blocks of a tile; `scale` returns a block's sixteen scales, `block` adds a block's dot products to its argument.
///
/// # Safety
/// Same as [`sums`]; `block` may read a block of codes and of each row's inputs, `scale` every block's scales.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn walk<const M: usize>(
    job: &Job<'_>,
    kind: PackedFormat,
    (rows, scale): ([Row<'_>; M], impl Fn(usize) -> __m512),
    sums: &mut [[f32; ROWS]; M],
    block: impl Fn(*const Line, [*const i32; M], [__m512i; M]) -> [__m512i; M],
) {
    let blocks = job.weight.blocks();
    let lines = &job.weight.codes[job.tile * blocks * kind.lines()..][..blocks * kind.lines()];
    let mut totals = [_mm512_setzero_ps(); M];
    for at in 0..blocks {
        // the codes are stored with an offset
        let mut excess = [_mm512_setzero_si512(); M];
        for (excess, row) in excess.iter_mut().zip(&rows) {
            *excess = _mm512_set1_epi32(-kind.offset() * row.sums[at]);
        }
        // SAFETY: inside the tile's lines and the rows' values, both `blocks` blocks long.
        let dots = unsafe {
            let inputs = rows.map(|row| row.values.as_ptr().add(at * kind.block()).cast());
            block(lines.as_ptr().add(at * kind.lines()), inputs, excess)
        };
        let weights = scale(at);
        for m in 0..M {
            // not fused, as in the scalar reference
            let scale = _mm512_mul_ps(weights, _mm512_set1_ps(rows[m].scales[at]));
            totals[m] = _mm512_add_ps(totals[m], _mm512_mul_ps(_mm512_cvtepi32_ps(dots[m]), scale));
        }
    }
    for (total, sums) in totals.iter().zip(sums) {
        // SAFETY: sixteen lanes into sixteen elements.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) };
    }
}

/// A block's sixteen scales.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn scales(scales: &Scales, block_index: usize) -> __m512 {
    // SAFETY: the slices are sixteen scales long.
    unsafe {
        match scales {
            Scales::Floats(scales) => _mm512_loadu_ps(scales[block_index * ROWS..][..ROWS].as_ptr()),
            Scales::Halves(scales) => {
                _mm512_cvtph_ps(_mm256_loadu_si256(scales[block_index * ROWS..][..ROWS].as_ptr().cast()))
            }
            Scales::Units(_) => unreachable!("K-quants have two levels of scales"),
        }
    }
}

/// # Safety
/// Same as [`sums`]; the lines must hold a block of NF4 and the inputs 64 bytes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn nf4<const M: usize>(lines: *const Line, inputs: [*const i32; M], dots: [__m512i; M]) -> [__m512i; M] {
    // SAFETY: sixteen bytes of table; the caller guarantees the rest.
    unsafe {
        let table = _mm512_broadcast_i32x4(_mm_loadu_si128(LEVELS.as_ptr().cast()));
        let level = |codes| _mm512_shuffle_epi8(table, codes);
        nibbles(PackedFormat::Nf4, lines, inputs, dots, level)
    }
}

/// # Safety
/// Same as [`sums`]; the lines must hold a block of Q4_0 and the inputs 32 bytes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn q4_0<const M: usize>(lines: *const Line, inputs: [*const i32; M], dots: [__m512i; M]) -> [__m512i; M] {
    // SAFETY: guaranteed by the caller.
    unsafe { nibbles(PackedFormat::Q4_0, lines, inputs, dots, |codes| codes) }
}

/// 4-bit codes; `level` maps them to the factors that are multiplied.
///
/// # Safety
/// Same as [`sums`]; a block of codes of this kind and of inputs.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn nibbles<const M: usize>(
    kind: PackedFormat,
    lines: *const Line,
    inputs: [*const i32; M],
    dots: [__m512i; M],
    level: impl Fn(__m512i) -> __m512i,
) -> [__m512i; M] {
    let low = _mm512_set1_epi8(15);
    let (mut even, mut odd) = (dots, [_mm512_setzero_si512(); M]);
    for line in 0..kind.lines() {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let codes = _mm512_load_si512(lines.add(line).cast());
            let first = level(_mm512_and_si512(codes, low));
            let second = level(_mm512_and_si512(_mm512_srli_epi16::<4>(codes), low));
            for m in 0..M {
                even[m] = _mm512_dpbusd_epi32(even[m], first, quad(inputs[m], 2 * line));
                odd[m] = _mm512_dpbusd_epi32(odd[m], second, quad(inputs[m], 2 * line + 1));
            }
        }
    }
    std::array::from_fn(|m| _mm512_add_epi32(even[m], odd[m]))
}

/// # Safety
/// Same as [`sums`]; the lines must hold a block of Q8_0 and the inputs 32 bytes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn q8_0<const M: usize>(lines: *const Line, inputs: [*const i32; M], dots: [__m512i; M]) -> [__m512i; M] {
    let (mut even, mut odd) = (dots, [_mm512_setzero_si512(); M]);
    for line in (0..PackedFormat::Q8_0.lines()).step_by(2) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let first = _mm512_load_si512(lines.add(line).cast());
            let second = _mm512_load_si512(lines.add(line + 1).cast());
            for m in 0..M {
                even[m] = _mm512_dpbusd_epi32(even[m], first, quad(inputs[m], line));
                odd[m] = _mm512_dpbusd_epi32(odd[m], second, quad(inputs[m], line + 1));
            }
        }
    }
    std::array::from_fn(|m| _mm512_add_epi32(even[m], odd[m]))
}

/// Four inputs in every lane.
///
/// # Safety
/// `inputs` must have an element `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn quad(inputs: *const i32, at: usize) -> __m512i {
    // SAFETY: guaranteed by the caller.
    _mm512_set1_epi32(unsafe { inputs.add(at).read_unaligned() })
}
