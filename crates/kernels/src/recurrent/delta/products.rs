//! Products of small matrices and scalings of rows, on the calling thread.

use crate::{
    Accumulate, Precision,
    gemm::{Left, Right, Sum, Term},
    math::dot,
};

/// `left · right` over `k` elements.
pub(super) fn term<'a>(left: Left<'a>, right: Right<'a>, k: usize) -> Term<'a> {
    Term {
        left,
        right,
        k,
        scale: 1.0,
    }
}

fn sum<'a>((m, n): (usize, usize), terms: &'a [Term<'a>], accumulate: Accumulate) -> Sum<'a> {
    Sum {
        m,
        n,
        terms,
        accumulate,
        precision: Precision::F32,
    }
}

/// `out [m, n] = Σ terms`, on this thread.
pub(super) fn multiply((m, n): (usize, usize), terms: &[Term<'_>], out: &mut [f32]) {
    sum((m, n), terms, Accumulate::Overwrite).compute_panels_serial(out, n);
}

/// `out [m, n] += Σ terms`, on this thread.
pub(super) fn add((m, n): (usize, usize), terms: &[Term<'_>], out: &mut [f32]) {
    sum((m, n), terms, Accumulate::Add).compute_panels_serial(out, n);
}

crate::isa::multiversion! {
    /// `x ⊙= by`.
    pub(super) fn scale_each(by: &[f32], x: &mut [f32]) = scale_each_body
}

#[inline(always)]
fn scale_each_body(by: &[f32], x: &mut [f32]) {
    for (x, by) in x.iter_mut().zip(by) {
        *x *= by;
    }
}

crate::isa::multiversion! {
    /// `x *= by`.
    pub(super) fn scale(by: f32, x: &mut [f32]) = scale_body
}

#[inline(always)]
fn scale_body(by: f32, x: &mut [f32]) {
    for x in x {
        *x *= by;
    }
}

crate::isa::multiversion! {
    /// `out_t = by_t · x_t` for rows of `x`, which lie the given stride apart; as many rows as `by` has.
    pub(super) fn scale_rows(by: &[f32], rows: (&[f32], usize), out: &mut [f32]) = scale_rows_body
}

#[inline(always)]
fn scale_rows_body(by: &[f32], (x, stride): (&[f32], usize), out: &mut [f32]) {
    let width = out.len() / by.len();
    for (t, (out, by)) in out.chunks_exact_mut(width).zip(by).enumerate() {
        let x = &x[t * stride..t * stride + width];
        for (out, x) in out.iter_mut().zip(x) {
            *out = by * x;
        }
    }
}

crate::isa::multiversion! {
    /// `Σ a·b`.
    pub(super) fn inner(a: &[f32], b: &[f32]) -> f32 = dot
}
