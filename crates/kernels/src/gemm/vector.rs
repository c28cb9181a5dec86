//! Products with very few rows: the weight is read once, row by row, and dotted with each.
//! This is what a decoding step costs, so it is bound by memory and not by arithmetic.

use std::cell::RefCell;

use super::{Accumulate, Matrix, Product};
use crate::{
    math::sum_by,
    parallel::{SharedMut, parallel_for, threads},
};

thread_local! {
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Computes `product` (left in rows, right transposed).
pub(super) fn run(product: &Product<'_>, out: &mut [f32], out_stride: usize, parallel: bool) {
    let n = product.shape.n;
    let target = SharedMut::new(out);
    let tasks = if parallel && n * product.shape.k > 1 << 15 {
        (4 * threads()).min(n)
    } else {
        1
    };
    let width = n.div_ceil(tasks);
    parallel_for(n.div_ceil(width), |task| {
        let (first, last) = (task * width, (task * width + width).min(n));
        ROW.with_borrow_mut(|row| columns(product, first..last, row, target, out_stride));
    });
}

fn columns(
    product: &Product<'_>,
    columns: std::ops::Range<usize>,
    row: &mut Vec<f32>,
    out: SharedMut,
    out_stride: usize,
) {
    let k = product.shape.k;
    row.resize(k, 0.0);
    for column in columns {
        let start = column * product.right.stride;
        let weights = match product.right.matrix {
            Matrix::F32(values) => &values[start..start + k],
            matrix => {
                widen(matrix, start, row);
                &row[..]
            }
        };
        for m in 0..product.shape.m {
            let left = &product.left.data[m * product.left.stride..m * product.left.stride + k];
            let sum = product.scale * dot(left, weights);
            // SAFETY: each column belongs to one task, and `check` proved the bounds.
            let target = unsafe { out.slice(m * out_stride + column, 1) };
            match product.accumulate {
                Accumulate::Overwrite => target[0] = sum,
                Accumulate::Add => target[0] += sum,
            }
        }
    }
}

crate::isa::multiversion! {
    fn widen(matrix: Matrix<'_>, start: usize, out: &mut [f32]) = widen_body
}

#[inline(always)]
fn widen_body(matrix: Matrix<'_>, start: usize, out: &mut [f32]) {
    match matrix {
        Matrix::Bf16(values) => {
            for (target, value) in out.iter_mut().zip(&values[start..]) {
                *target = f32::from_bits(u32::from(value.to_bits()) << 16);
            }
        }
        other => other.widen(start, out),
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
