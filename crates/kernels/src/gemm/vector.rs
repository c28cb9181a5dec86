//! Products with very few rows: the weight is read once, row by row, and dotted with each.
//! This is what a decoding step costs, so it is bound by memory and not by arithmetic.

use std::{cell::RefCell, ops::Range};

use super::{Accumulate, Sum, Term};
use crate::{
    Matrix,
    math::sum_by,
    parallel::{SharedMut, parallel_for, threads},
};

thread_local! {
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes `sum` (left operands in rows, right ones transposed).
pub(super) fn run(sum: &Sum<'_>, out: &mut [f32], out_stride: usize, parallel: bool) {
    let target = SharedMut::new(out);
    let mut accumulate = sum.accumulate;
    for term in sum.terms {
        let widened;
        let (left, stride) = match term.left.matrix {
            Matrix::F32(data) => (data, term.left.stride),
            matrix => {
                let mut rows = vec![0.0; sum.m * term.k];
                for (m, row) in rows.chunks_exact_mut(term.k.max(1)).enumerate() {
                    matrix.widen(m * term.left.stride, row);
                }
                widened = rows;
                (&widened[..], term.k)
            }
        };
        let job = Job {
            term,
            left,
            stride,
            m: sum.m,
            accumulate,
        };
        let tasks = if parallel && sum.n * term.k > 1 << 15 {
            (4 * threads()).min(sum.n)
        } else {
            1
        };
        let width = sum.n.div_ceil(tasks);
        parallel_for(sum.n.div_ceil(width), |task| {
            let columns = task * width..(task * width + width).min(sum.n);
            ROW.with_borrow_mut(|row| job.columns(columns, row, target, out_stride));
        });
        accumulate = Accumulate::Add;
    }
}

/// One term.
struct Job<'a> {
    term: &'a Term<'a>,
    left: &'a [f32],
    stride: usize,
    m: usize,
    accumulate: Accumulate,
}

impl Job<'_> {
    fn columns(&self, columns: Range<usize>, row: &mut Vec<f32>, out: SharedMut<'_>, out_stride: usize) {
        let Term { right, k, scale, .. } = *self.term;
        row.resize(k, 0.0);
        for column in columns {
            let start = column * right.stride;
            let weights = match right.matrix {
                Matrix::F32(values) => &values[start..start + k],
                matrix => {
                    matrix.widen(start, row);
                    &row[..]
                }
            };
            for m in 0..self.m {
                let sum = scale * dot(&self.left[m * self.stride..m * self.stride + k], weights);
                // SAFETY: each column belongs to one task, and `check` proved the bounds.
                let target = unsafe { out.slice(m * out_stride + column, 1) };
                match self.accumulate {
                    Accumulate::Overwrite => target[0] = sum,
                    Accumulate::Add => target[0] += sum,
                }
            }
        }
    }
}

crate::isa::multiversion! {
    fn dot(a: &[f32], b: &[f32]) -> f32 = dot_body
}

#[inline(always)]
fn dot_body(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    sum_by(n, |i| a[i] * b[i])
}
