//! Norms of each head's part of a row, `[t, heads · dim]` read as `[t · heads, dim]`.
//!
//! RMSNorm with a weight per element of the whole row (for a cell's output in xLSTM and Gated DeltaNet), and L2
//! normalization of keys and queries (DeltaNet). What this is not: the norm of the residual stream, which is `norm`.

use crate::{
    math::{dot, sum_by},
    parallel::for_each_row_block,
};

/// `y = w ⊙ x · (mean over the head of x² + ε)^-½`; `weight [heads · dim]`.
pub fn rms(x: &[f32], weight: &[f32], dim: usize, epsilon: f32, y: &mut [f32]) {
    let width = weight.len();
    for_each_row_block(y, width, |first, block| {
        rms_rows(&x[first * width..], weight, dim, epsilon, block);
    });
}

/// Gradients of [`rms`]: overwrites `dx`, adds to `dweight`.
pub fn rms_backward(
    x: &[f32],
    weight: &[f32],
    (dim, epsilon): (usize, f32),
    dy: &[f32],
    dx: &mut [f32],
    dweight: &mut [f32],
) {
    let width = weight.len();
    for_each_row_block(dx, width, |first, block| {
        rms_backward_rows(&x[first * width..], weight, (dim, epsilon), &dy[first * width..], block);
    });
    rms_weight_rows(x, (dim, epsilon), dy, dweight);
}

/// `y = x / ‖x‖` for each head, `‖x‖ = (Σ x² + ε)^½`.
pub fn l2(x: &[f32], dim: usize, epsilon: f32, y: &mut [f32]) {
    for_each_row_block(y, dim, |first, block| l2_rows(&x[first * dim..], dim, epsilon, block));
}

/// Gradient of [`l2`]: overwrites `dx`.
pub fn l2_backward(x: &[f32], dim: usize, epsilon: f32, dy: &[f32], dx: &mut [f32]) {
    for_each_row_block(dx, dim, |first, block| {
        l2_backward_rows(&x[first * dim..], (dim, epsilon), &dy[first * dim..], block);
    });
}

crate::isa::multiversion! {
    fn rms_rows(x: &[f32], weight: &[f32], dim: usize, epsilon: f32, y: &mut [f32]) = rms_rows_body
}

#[inline(always)]
fn rms_rows_body(x: &[f32], weight: &[f32], dim: usize, epsilon: f32, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(weight.len()).zip(y.chunks_exact_mut(weight.len())) {
        for ((x, w), y) in x
            .chunks_exact(dim)
            .zip(weight.chunks_exact(dim))
            .zip(y.chunks_exact_mut(dim))
        {
            let rho = 1.0 / (dot(x, x) / dim as f32 + epsilon).sqrt();
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = w * (x * rho);
            }
        }
    }
}

crate::isa::multiversion! {
    fn rms_backward_rows(x: &[f32], weight: &[f32], head: (usize, f32), dy: &[f32], dx: &mut [f32]) = rms_backward_rows_body
}

#[inline(always)]
fn rms_backward_rows_body(x: &[f32], weight: &[f32], (dim, epsilon): (usize, f32), dy: &[f32], dx: &mut [f32]) {
    let width = weight.len();
    for (row, dx) in dx.chunks_exact_mut(width).enumerate() {
        let (x, dy) = (&x[row * width..(row + 1) * width], &dy[row * width..(row + 1) * width]);
        for start in (0..width).step_by(dim) {
            let range = start..start + dim;
            let (x, w, dy) = (&x[range.clone()], &weight[range.clone()], &dy[range.clone()]);
            let rho = 1.0 / (dot(x, x) / dim as f32 + epsilon).sqrt();
            let projection = rho * rho * rho * (sum_by(dim, |i| x[i] * w[i] * dy[i]) / dim as f32);
            for (((dx, x), w), dy) in dx[range].iter_mut().zip(x).zip(w).zip(dy) {
                *dx = rho * w * dy - x * projection;
            }
        }
    }
}

crate::isa::multiversion! {
    fn rms_weight_rows(x: &[f32], head: (usize, f32), dy: &[f32], dweight: &mut [f32]) = rms_weight_rows_body
}

/// Rows in order on one thread: a pass over `x` and `dy`, bound by memory.
#[inline(always)]
fn rms_weight_rows_body(x: &[f32], (dim, epsilon): (usize, f32), dy: &[f32], dweight: &mut [f32]) {
    let width = dweight.len();
    for (x, dy) in x.chunks_exact(width).zip(dy.chunks_exact(width)) {
        for ((x, dy), dw) in x
            .chunks_exact(dim)
            .zip(dy.chunks_exact(dim))
            .zip(dweight.chunks_exact_mut(dim))
        {
            let rho = 1.0 / (dot(x, x) / dim as f32 + epsilon).sqrt();
            for ((dw, x), dy) in dw.iter_mut().zip(x).zip(dy) {
                *dw += dy * x * rho;
            }
        }
    }
}

crate::isa::multiversion! {
    fn l2_rows(x: &[f32], dim: usize, epsilon: f32, y: &mut [f32]) = l2_rows_body
}

#[inline(always)]
fn l2_rows_body(x: &[f32], dim: usize, epsilon: f32, y: &mut [f32]) {
    for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
        let inverse = 1.0 / (dot(x, x) + epsilon).sqrt();
        for (y, x) in y.iter_mut().zip(x) {
            *y = x * inverse;
        }
    }
}

crate::isa::multiversion! {
    fn l2_backward_rows(x: &[f32], head: (usize, f32), dy: &[f32], dx: &mut [f32]) = l2_backward_rows_body
}

#[inline(always)]
fn l2_backward_rows_body(x: &[f32], (dim, epsilon): (usize, f32), dy: &[f32], dx: &mut [f32]) {
    for ((x, dy), dx) in x
        .chunks_exact(dim)
        .zip(dy.chunks_exact(dim))
        .zip(dx.chunks_exact_mut(dim))
    {
        let inverse = 1.0 / (dot(x, x) + epsilon).sqrt();
        let projection = inverse * inverse * inverse * dot(x, dy);
        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = inverse * dy - x * projection;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const EPSILON: f64 = 1e-3;

    fn values(seed: u64, count: usize) -> Vec<f32> {
        let stream = Stream::new(&[seed]);
        (0..count as u64).map(|i| stream.normal(i)).collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&v| f64::from(v)).collect()
    }

    /// `Σ dy · y` of either norm by its definition.
    fn objective(x: &[f64], weight: Option<&[f64]>, dim: usize, dy: &[f32]) -> f64 {
        let mut sum = 0.0;
        for (head, (x, dy)) in x.chunks_exact(dim).zip(dy.chunks_exact(dim)).enumerate() {
            let squares: f64 = x.iter().map(|v| v * v).sum();
            let scale = match weight {
                Some(_) => (squares / dim as f64 + EPSILON).powf(-0.5),
                None => (squares + EPSILON).powf(-0.5),
            };
            for i in 0..dim {
                let w = weight.map_or(1.0, |weight| weight[(head * dim + i) % weight.len()]);
                sum += f64::from(dy[i]) * w * x[i] * scale;
            }
        }
        sum
    }

    fn slope(values: &[f64], index: usize, of: impl Fn(&[f64]) -> f64) -> f64 {
        let moved = |by: f64| {
            let mut moved = values.to_vec();
            moved[index] += by;
            of(&moved)
        };
        (moved(1e-6) - moved(-1e-6)) / 2e-6
    }

    #[test]
    fn values_and_gradients_are_those_of_the_definition() {
        for (rows, heads, dim) in [(1usize, 1usize, 1usize), (3, 2, 5), (2, 3, 16), (4, 1, 37)] {
            let width = heads * dim;
            let (x, weight, dy) = (values(1, rows * width), values(2, width), values(3, rows * width));
            let (wx, ww) = (wide(&x), wide(&weight));
            let mut y = vec![0.0; x.len()];
            let total = |y: &[f32]| -> f64 { y.iter().zip(&dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum() };

            rms(&x, &weight, dim, EPSILON as f32, &mut y);
            assert!((total(&y) - objective(&wx, Some(&ww), dim, &dy)).abs() < 1e-4);
            let (mut dx, mut dw) = (vec![9.0; x.len()], vec![0.5; width]);
            rms_backward(&x, &weight, (dim, EPSILON as f32), &dy, &mut dx, &mut dw);
            for (i, got) in dx.iter().enumerate() {
                let expected = slope(&wx, i, |x| objective(x, Some(&ww), dim, &dy));
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-3 * (1.0 + expected.abs()),
                    "dx {i}"
                );
            }
            for (i, got) in dw.iter().enumerate() {
                let expected = 0.5 + slope(&ww, i, |w| objective(&wx, Some(w), dim, &dy));
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-3 * (1.0 + expected.abs()),
                    "dw {i}"
                );
            }

            l2(&x, dim, EPSILON as f32, &mut y);
            assert!((total(&y) - objective(&wx, None, dim, &dy)).abs() < 1e-4);
            l2_backward(&x, dim, EPSILON as f32, &dy, &mut dx);
            for (i, got) in dx.iter().enumerate() {
                let expected = slope(&wx, i, |x| objective(x, None, dim, &dy));
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-3 * (1.0 + expected.abs()),
                    "l2 dx {i}"
                );
            }
        }
    }
}
