//! RMSNorm, forward and backward (Zhang and Sennrich 2019): `y = w · x · ρ`, `ρ = (mean x² + ε)^-½`.

use crate::{
    MatrixMut,
    math::sum_by,
    matrix::{Element, with_elements},
    parallel::{SharedMut, for_each_row_block, parallel_for, threads},
};

/// Normalises each row of `x [t, hidden]` into `y`; `inverse[t]` keeps ρ for the backward pass.
pub fn forward<'a>(x: &[f32], weight: &[f32], epsilon: f32, y: impl Into<MatrixMut<'a>>, inverse: &mut [f32]) {
    let hidden = weight.len();
    for_each_row_block(inverse, 1, |first, block| {
        for (offset, rho) in block.iter_mut().enumerate() {
            *rho = inverse_rms(&x[(first + offset) * hidden..(first + offset + 1) * hidden], epsilon);
        }
    });
    let inverse = &*inverse;
    with_elements!(y.into(), |y| for_each_row_block(y, hidden, |first, block| {
        for (offset, row) in block.chunks_exact_mut(hidden).enumerate() {
            let t = first + offset;
            scale_row(&x[t * hidden..(t + 1) * hidden], weight, inverse[t], row);
        }
    }));
}

/// Adds the input gradient to `dx`: `ρ·(w·dy) − x·ρ³·mean(x·w·dy)`.
pub fn backward(x: &[f32], weight: &[f32], inverse: &[f32], dy: &[f32], dx: &mut [f32]) {
    let hidden = weight.len();
    for_each_row_block(dx, hidden, |first, block| {
        for (offset, row) in block.chunks_exact_mut(hidden).enumerate() {
            let t = first + offset;
            let range = t * hidden..(t + 1) * hidden;
            backward_row(&x[range.clone()], weight, inverse[t], &dy[range], row);
        }
    });
}

/// Adds the weight gradient: `dw[j] += Σ_t dy[t, j]·x[t, j]·ρ[t]`, rows in order.
pub fn backward_weight(x: &[f32], inverse: &[f32], dy: &[f32], dw: &mut [f32]) {
    let hidden = dw.len();
    let block = hidden.div_ceil(threads()).max(64);
    let target = SharedMut::new(dw);
    parallel_for(hidden.div_ceil(block), |task| {
        let (first, last) = (task * block, (task * block + block).min(hidden));
        // SAFETY: each task owns its columns.
        let columns = unsafe { target.slice(first, last - first) };
        for (t, &rho) in inverse.iter().enumerate() {
            let range = t * hidden + first..t * hidden + last;
            for ((column, x), dy) in columns.iter_mut().zip(&x[range.clone()]).zip(&dy[range]) {
                *column += dy * x * rho;
            }
        }
    });
}

crate::isa::multiversion! {
    fn inverse_rms(x: &[f32], epsilon: f32) -> f32 = inverse_rms_body
}

#[inline(always)]
fn inverse_rms_body(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (sum_by(x.len(), |i| x[i] * x[i]) / x.len() as f32 + epsilon).sqrt()
}

crate::isa::multiversion! {
    fn scale_row<T: Element>(x: &[f32], weight: &[f32], rho: f32, y: &mut [T]) = scale_row_body
}

#[inline(always)]
fn scale_row_body<T: Element>(x: &[f32], weight: &[f32], rho: f32, y: &mut [T]) {
    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
        *y = T::put(weight * (x * rho));
    }
}

crate::isa::multiversion! {
    fn backward_row(x: &[f32], weight: &[f32], rho: f32, dy: &[f32], dx: &mut [f32]) = backward_row_body
}

#[inline(always)]
fn backward_row_body(x: &[f32], weight: &[f32], rho: f32, dy: &[f32], dx: &mut [f32]) {
    let n = x.len();
    let (weight, dy) = (&weight[..n], &dy[..n]);
    let mean = sum_by(n, |i| x[i] * weight[i] * dy[i]) / n as f32;
    let pull = rho * rho * rho * mean;
    for (((dx, x), weight), dy) in dx.iter_mut().zip(x).zip(weight).zip(dy) {
        *dx += rho * weight * dy - x * pull;
    }
}
