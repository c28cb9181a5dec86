//! RMSNorm, forward and backward (Zhang and Sennrich 2019): `y = w · x · ρ`, `ρ = (mean x² + ε)^-½`.

use crate::{
    MatrixMut,
    math::sum_by,
    matrix::{Element, with_elements},
    parallel::{SharedMut, for_each_row_block, parallel_for, threads},
};

/// Normalizes each row of `x [t, hidden]` into `y`; `inverse[t]` receives ρ for the backward pass.
pub fn forward<'a>(x: &[f32], weight: &[f32], epsilon: f32, y: impl Into<MatrixMut<'a>>, inverse: &mut [f32]) {
    with_elements!(y.into(), |y| forward_rows(x, weight, epsilon, y, inverse));
}

fn forward_rows<T: Element>(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [T], inverse: &mut [f32]) {
    let hidden = weight.len();
    assert!(
        x.len() >= y.len() && inverse.len() * hidden >= y.len(),
        "operands of the norm are too short"
    );
    let inverse = SharedMut::new(inverse);
    for_each_row_block(y, hidden, |first, block| {
        for (offset, row) in block.chunks_exact_mut(hidden).enumerate() {
            let t = first + offset;
            let x = &x[t * hidden..(t + 1) * hidden];
            let rho = inverse_rms(x, epsilon);
            // SAFETY: each row has one inverse, and each row belongs to one task.
            let kept = unsafe { inverse.slice(t, 1) };
            kept[0] = rho;
            scale_row(x, weight, rho, row);
        }
    });
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
    let projection = rho * rho * rho * mean;
    for (((dx, x), weight), dy) in dx.iter_mut().zip(x).zip(weight).zip(dy) {
        *dx += rho * weight * dy - x * projection;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const ROWS: usize = 3;
    const EPSILON: f64 = 1e-5;

    fn values(seed: u64, count: usize) -> Vec<f32> {
        let stream = Stream::new(&[seed]);
        (0..count as u64).map(|i| stream.normal(i)).collect()
    }

    /// `Σ dy · y` by the definition, for widths that no vector divides.
    fn objective(x: &[f64], weight: &[f64], dy: &[f32]) -> f64 {
        let hidden = weight.len();
        x.chunks_exact(hidden)
            .zip(dy.chunks_exact(hidden))
            .map(|(x, dy)| {
                let rho = (x.iter().map(|v| v * v).sum::<f64>() / hidden as f64 + EPSILON).powf(-0.5);
                (0..hidden)
                    .map(|i| f64::from(dy[i]) * weight[i] * x[i] * rho)
                    .sum::<f64>()
            })
            .sum()
    }

    #[test]
    fn gradients_equal_finite_differences() {
        for hidden in [1usize, 15, 37, 64] {
            let (x, weight, dy) = (values(1, ROWS * hidden), values(2, hidden), values(3, ROWS * hidden));
            let (mut y, mut inverse) = (vec![0.0; x.len()], vec![0.0; ROWS]);
            forward(&x, &weight, EPSILON as f32, &mut y, &mut inverse);
            let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
            let (wx, ww) = (wide(&x), wide(&weight));
            let direct: f64 = y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum();
            assert!(
                (direct - objective(&wx, &ww, &dy)).abs() < 1e-4,
                "forward at width {hidden}"
            );
            let (mut dx, mut dw) = (vec![0.5; x.len()], vec![0.25; hidden]);
            backward(&x, &weight, &inverse, &dy, &mut dx);
            backward_weight(&x, &inverse, &dy, &mut dw);
            let slope = |values: &[f64], index: usize, of: &dyn Fn(&[f64]) -> f64| {
                let moved = |by: f64| {
                    let mut moved = values.to_vec();
                    moved[index] += by;
                    of(&moved)
                };
                (moved(1e-6) - moved(-1e-6)) / 2e-6
            };
            for (index, got) in dx.iter().enumerate() {
                let expected = 0.5 + slope(&wx, index, &|x| objective(x, &ww, &dy));
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-3,
                    "dx {index} of width {hidden}"
                );
            }
            for (index, got) in dw.iter().enumerate() {
                let expected = 0.25 + slope(&ww, index, &|weight| objective(&wx, weight, &dy));
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-3,
                    "dw {index} of width {hidden}"
                );
            }
        }
    }
}
