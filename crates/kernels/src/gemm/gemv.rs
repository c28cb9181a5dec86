//! Matrix-vector products (GEMV): each stored row of the weight is read once and multiplied with every row of
//! activations as a dot product.
//!
//! Nothing is packed, so a few rows cost no more than reading the weight. An output's sum runs in sixteen lanes in the
//! order of `k` whatever the number of rows, so a row gets the same bits alone and in a batch. Decoding needs this
//! guarantee: [`Sum::compute_dots`] gives it, [`Sum::compute`] does not.

use std::{borrow::Cow, cell::RefCell, ops::Range};

use half::bf16;

use super::{Accumulate, Precision, Sum, Term, grow};
use crate::{
    Isa, Matrix,
    math::fold,
    matrix::convert,
    parallel::{SharedMut, parallel_for, threads},
};

/// Weight rows that share a pass over activations.
const COLUMNS: usize = 4;
/// Rows of activations that share a pass over weights.
const ROWS: usize = 4;
/// Running sums of one output.
const LANES: usize = 16;

/// bf16 of one vector.
#[cfg(simd_x86)]
const WIDTH: usize = 2 * LANES;

/// The dot products of four rows of activations and four weight rows, in the layout of the output.
type Dots = [[f32; COLUMNS]; ROWS];

thread_local! {
    static WIDE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Up to this number of multiplications, splitting costs more than it gains.
const SMALL: usize = 1 << 15;

/// One sum and where it goes, `[m, n]` with rows `out_stride` elements apart.
pub(super) struct Job<'a> {
    sum: &'a Sum<'a>,
    /// Of every term that has something to multiply.
    factors: Vec<(&'a Term<'a>, Factors<'a>)>,
    target: Target<'a>,
}

impl<'a> Job<'a> {
    /// Left operands must be in rows, right ones transposed. With `native`, what is stored in bf16 is multiplied by the
    /// bf16 unit where the precision allows it, and rows are rounded to it; without, nothing is rounded.
    pub(super) fn new(sum: &'a Sum<'a>, (out, out_stride): (&'a mut [f32], usize), native: bool) -> Self {
        let halves = native && sum.precision == Precision::Bf16 && Isa::current().multiplies_bf16();
        let factors = |term: &'a Term<'a>| match term.right.matrix {
            Matrix::Bf16(weights) if halves => Factors::Halves(weights, half_rows(term, sum.m)),
            weights => Factors::Floats(weights, float_rows(term, sum.m)),
        };
        let terms = sum.terms.iter().filter(|term| term.k > 0);
        Self {
            sum,
            factors: terms.map(|term| (term, factors(term))).collect(),
            target: Target {
                out: SharedMut::new(out),
                stride: out_stride,
                rows: sum.m,
            },
        }
    }

    /// Multiplications of one column.
    fn column_work(&self) -> usize {
        self.factors.iter().map(|(term, _)| term.k * self.sum.m).sum()
    }

    fn columns(&self, columns: &Range<usize>) {
        let mut accumulate = self.sum.accumulate;
        for (term, factors) in &self.factors {
            factors.columns(term, columns.clone(), accumulate, self.target);
            accumulate = Accumulate::Add;
        }
    }
}

/// Computes all jobs. Their columns are divided among the threads once, so that many small sums synchronize no more often
/// than a large one.
pub(super) fn run(jobs: &[Job<'_>], parallel: bool) {
    let work: usize = jobs.iter().map(|job| job.column_work() * job.sum.n).sum();
    let tasks = if parallel && work > SMALL { 4 * threads() } else { 1 };
    let share = work.div_ceil(tasks).max(1);
    let mut parts = Vec::with_capacity(tasks + jobs.len());
    for job in jobs {
        let count = (job.column_work() * job.sum.n).div_ceil(share).max(1);
        let width = job.sum.n.div_ceil(count).next_multiple_of(COLUMNS);
        let firsts = (0..job.sum.n).step_by(width);
        parts.extend(firsts.map(|first| (job, first..(first + width).min(job.sum.n))));
    }
    parallel_for(if tasks == 1 { 1 } else { parts.len() }, |index| {
        let own = if tasks == 1 { &parts[..] } else { &parts[index..=index] };
        for (job, columns) in own {
            job.columns(columns);
        }
    });
}

/// The left operand in f32, `[m, k]` without gaps: itself, where it lies so.
fn float_rows<'a>(term: &Term<'a>, m: usize) -> Cow<'a, [f32]> {
    if let (Matrix::F32(rows), true) = (term.left.matrix, term.left.stride == term.k) {
        return Cow::Borrowed(&rows[..m * term.k]);
    }
    let mut rows = vec![0.0; m * term.k];
    for (index, row) in rows.chunks_exact_mut(term.k.max(1)).enumerate() {
        term.left.matrix.widen(index * term.left.stride, row);
    }
    Cow::Owned(rows)
}

/// The left operand in bf16, `[m, k]` without gaps.
fn half_rows(term: &Term<'_>, m: usize) -> Vec<bf16> {
    let mut rows = vec![bf16::ZERO; m * term.k];
    convert(&float_rows(term, m), &mut rows);
    rows
}

/// Where the products go.
#[derive(Clone, Copy)]
struct Target<'a> {
    out: SharedMut<'a>,
    stride: usize,
    rows: usize,
}

/// Stored weights and rows of activations, in the format that multiplies them.
enum Factors<'a> {
    Floats(Matrix<'a>, Cow<'a, [f32]>),
    Halves(&'a [bf16], Vec<bf16>),
}

/// Four stored rows in the format that multiplies them.
#[derive(Clone, Copy)]
enum Weights<'a> {
    Floats([&'a [f32]; COLUMNS]),
    Halves([&'a [bf16]; COLUMNS]),
}

impl Factors<'_> {
    /// Some columns of the output.
    fn columns(&self, term: &Term<'_>, columns: Range<usize>, accumulate: Accumulate, target: Target<'_>) {
        let (k, stride) = (term.k, term.right.stride);
        WIDE.with_borrow_mut(|wide| {
            for first in columns.clone().step_by(COLUMNS) {
                // the last columns repeat themselves
                let starts: [usize; COLUMNS] =
                    std::array::from_fn(|column| (first + column).min(columns.end - 1) * stride);
                let weights = match self {
                    Self::Halves(stored, _) => Weights::Halves(starts.map(|start| &stored[start..start + k])),
                    Self::Floats(Matrix::F32(stored), _) => {
                        Weights::Floats(starts.map(|start| &stored[start..start + k]))
                    }
                    Self::Floats(stored, _) => {
                        grow(wide, COLUMNS * k);
                        for (start, row) in starts.iter().zip(wide.chunks_exact_mut(k)) {
                            stored.widen(*start, row);
                        }
                        Weights::Floats(std::array::from_fn(|column| &wide[column * k..(column + 1) * k]))
                    }
                };
                for row in (0..target.rows).step_by(ROWS) {
                    let count = ROWS.min(target.rows - row);
                    let mut dots = Dots::default();
                    let part = row * k..(row + count) * k;
                    match (self, weights) {
                        (Self::Floats(_, rows), Weights::Floats(weights)) => floats(weights, &rows[part], &mut dots),
                        (Self::Halves(_, rows), Weights::Halves(weights)) => halves(weights, &rows[part], &mut dots),
                        _ => unreachable!("weights and rows have one format"),
                    }
                    let width = COLUMNS.min(columns.end - first);
                    for (offset, dots) in dots.iter().enumerate().take(count) {
                        // SAFETY: each column belongs to one task, and `check` proved the bounds.
                        let out = unsafe { target.out.slice((row + offset) * target.stride + first, width) };
                        for (out, dot) in out.iter_mut().zip(dots) {
                            match accumulate {
                                Accumulate::Overwrite => *out = term.scale * dot,
                                Accumulate::Add => *out += term.scale * dot,
                            }
                        }
                    }
                }
            }
        });
    }
}

crate::isa::multiversion! {
    /// Dots of four weight rows with up to four rows `[count, k]`.
    fn floats(weights: [&[f32]; COLUMNS], rows: &[f32], dots: &mut Dots) = floats_body
}

#[inline(always)]
fn floats_body(weights: [&[f32]; COLUMNS], rows: &[f32], dots: &mut Dots) {
    let k = weights[0].len();
    let count = rows.len() / k;
    for first in (0..count).step_by(2) {
        if first + 2 <= count {
            float_tile::<2>(weights, &rows[first * k..(first + 2) * k], first, dots);
        } else {
            float_tile::<1>(weights, &rows[first * k..(first + 1) * k], first, dots);
        }
    }
}

#[inline(always)]
fn float_tile<const M: usize>(weights: [&[f32]; COLUMNS], rows: &[f32], first: usize, dots: &mut Dots) {
    let k = weights[0].len();
    let rows: [&[f32]; M] = std::array::from_fn(|m| &rows[m * k..(m + 1) * k]);
    let mut sums = [[[0.0f32; LANES]; M]; COLUMNS];
    let whole = k / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let rows: [&[f32; LANES]; M] = std::array::from_fn(|m| lanes(rows[m], at));
        for (weights, sums) in weights.iter().zip(&mut sums) {
            let weights = lanes(weights, at);
            for (row, sums) in rows.iter().zip(sums) {
                for lane in 0..LANES {
                    sums[lane] += weights[lane] * row[lane];
                }
            }
        }
    }
    for (column, (weights, sums)) in weights.iter().zip(&mut sums).enumerate() {
        for (m, sums) in sums.iter_mut().enumerate() {
            for at in whole..k {
                sums[at - whole] += weights[at] * rows[m][at];
            }
            dots[first + m][column] = fold(*sums);
        }
    }
}

#[inline(always)]
fn lanes(values: &[f32], at: usize) -> &[f32; LANES] {
    values[at..]
        .first_chunk()
        .unwrap_or_else(|| unreachable!("only whole lanes are read"))
}

/// Same as [`floats`], of bf16 by the bf16 unit: a lane sums pairs.
#[cfg(simd_x86)]
fn halves(weights: [&[bf16]; COLUMNS], rows: &[bf16], dots: &mut Dots) {
    // SAFETY: `Factors::Halves` exists only on levels with the bf16 unit.
    unsafe {
        match rows.len() / weights[0].len() {
            1 => half_tile::<1>(weights, rows, dots),
            2 => half_tile::<2>(weights, rows, dots),
            3 => half_tile::<3>(weights, rows, dots),
            _ => half_tile::<4>(weights, rows, dots),
        }
    }
}

#[cfg(not(simd_x86))]
fn halves(_weights: [&[bf16]; COLUMNS], _rows: &[bf16], _dots: &mut Dots) {
    unreachable!("no level here multiplies bf16")
}

/// # Safety
/// AVX-512 F, BW and BF16.
#[cfg(simd_x86)]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn half_tile<const M: usize>(weights: [&[bf16]; COLUMNS], rows: &[bf16], dots: &mut Dots) {
    use std::arch::x86_64::{
        _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_maskz_loadu_epi16, _mm512_reduce_add_ps, _mm512_setzero_ps,
        _mm512_setzero_si512, _mm512_storeu_ps,
    };
    let k = weights[0].len();
    let rows: [&[bf16]; M] = std::array::from_fn(|m| &rows[m * k..(m + 1) * k]);
    let mut sums = [[_mm512_setzero_ps(); M]; COLUMNS];
    let whole = k / WIDTH * WIDTH;
    for at in (0..whole).step_by(WIDTH) {
        let mut x = [_mm512_setzero_si512(); M];
        for m in 0..M {
            // SAFETY: a whole vector is inside the row.
            x[m] = unsafe { _mm512_loadu_si512(rows[m].as_ptr().add(at).cast()) };
        }
        for column in 0..COLUMNS {
            // SAFETY: as above.
            let w = unsafe { _mm512_loadu_si512(weights[column].as_ptr().add(at).cast()) };
            for m in 0..M {
                sums[column][m] = _mm512_dpbf16_ps(sums[column][m], pairs(w), pairs(x[m]));
            }
        }
    }
    if whole < k {
        let mask = (1u32 << (k - whole)) - 1;
        for column in 0..COLUMNS {
            for m in 0..M {
                // SAFETY: the mask excludes elements outside the rows.
                let (w, x) = unsafe {
                    (
                        _mm512_maskz_loadu_epi16(mask, weights[column].as_ptr().add(whole).cast()),
                        _mm512_maskz_loadu_epi16(mask, rows[m].as_ptr().add(whole).cast()),
                    )
                };
                sums[column][m] = _mm512_dpbf16_ps(sums[column][m], pairs(w), pairs(x));
            }
        }
    }
    if M == ROWS {
        let all = std::array::from_fn(|at| sums[at / ROWS][at % ROWS]);
        // SAFETY: sixteen dots are sixteen f32.
        unsafe { _mm512_storeu_ps(dots.as_mut_ptr().cast(), fold_square(&all)) };
        return;
    }
    for (column, sums) in sums.iter().enumerate() {
        for (m, sum) in sums.iter().enumerate() {
            // halves onto each other, as `fold` does
            dots[m][column] = _mm512_reduce_add_ps(*sum);
        }
    }
}

/// Sixteen sums of sixteen lanes each, of four columns with four rows; returns four rows of four columns. The halves
/// of several sums are added in one vector, in the order of [`fold`], so the bits are those of sixteen folds.
#[cfg(simd_x86)]
#[inline]
#[target_feature(enable = "avx512f")]
fn fold_square(sums: &[std::arch::x86_64::__m512; 16]) -> std::arch::x86_64::__m512 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_shuffle_f32x4, _mm512_shuffle_ps};
    // each step folds two vectors into one: lanes 8 apart, then 4, 2 and 1
    let mut eights = [sums[0]; 8];
    for (at, eight) in eights.iter_mut().enumerate() {
        let (a, b) = (sums[2 * at], sums[2 * at + 1]);
        *eight = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
    }
    let mut fours = [sums[0]; 4];
    for (at, four) in fours.iter_mut().enumerate() {
        let (a, b) = (eights[2 * at], eights[2 * at + 1]);
        *four = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
    }
    // fours[c], 128-bit lane m: four partial sums of column c and row m
    let halve = |a, b| _mm512_add_ps(_mm512_shuffle_ps::<0x44>(a, b), _mm512_shuffle_ps::<0xee>(a, b));
    let (a, b) = (halve(fours[0], fours[1]), halve(fours[2], fours[3]));
    _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xdd>(a, b))
}

/// The same bits as pairs of bf16.
#[cfg(simd_x86)]
#[inline(always)]
fn pairs(bits: std::arch::x86_64::__m512i) -> std::arch::x86_64::__m512bh {
    // SAFETY: both are 512 bits without invalid patterns.
    unsafe { std::mem::transmute(bits) }
}
