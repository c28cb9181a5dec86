//! Operations without sums: SwiGLU, residual additions, dropout, bias.

use half::bf16;

use crate::{
    Matrix, MatrixMut,
    math::sigmoid,
    matrix::{Element, with_elements},
    parallel::{SharedMut, for_each_chunk, for_each_row_block, parallel_for, threads},
    random::Stream,
};

/// `y += x`.
pub fn add(y: &mut [f32], x: &[f32]) {
    for_each_chunk(y, |first, block| add_block(block, &x[first..first + block.len()]));
}

crate::isa::multiversion! {
    fn add_block(y: &mut [f32], x: &[f32]) = add_body
}

#[inline(always)]
fn add_body(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// Adds `bias` to every row of `y`.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    for_each_row_block(y, bias.len(), |_, block| {
        for row in block.chunks_exact_mut(bias.len()) {
            add_block(row, bias);
        }
    });
}

/// `db[j] += Σ_t dy[t, j]`, rows in order.
pub fn bias_gradient(dy: &[f32], db: &mut [f32]) {
    let width = db.len();
    let block = width.div_ceil(threads()).max(64);
    let target = SharedMut::new(db);
    parallel_for(width.div_ceil(block), |task| {
        let (first, last) = (task * block, (task * block + block).min(width));
        // SAFETY: each task owns its columns.
        let columns = unsafe { target.slice(first, last - first) };
        for row in dy.chunks_exact(width) {
            add_block(columns, &row[first..last]);
        }
    });
}

/// SwiGLU (Shazeer 2020): `y = silu(gate) · up`.
pub fn swiglu<'a>(gate: &[f32], up: &[f32], y: impl Into<MatrixMut<'a>>) {
    with_elements!(y.into(), |y| for_each_chunk(y, |first, block| {
        let range = first..first + block.len();
        swiglu_block(&gate[range.clone()], &up[range], block);
    }));
}

crate::isa::multiversion! {
    fn swiglu_block<T: Element>(gate: &[f32], up: &[f32], y: &mut [T]) = swiglu_body
}

#[inline(always)]
fn swiglu_body<T: Element>(gate: &[f32], up: &[f32], y: &mut [T]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = T::put(gate * sigmoid(*gate) * up);
    }
}

/// SwiGLU backward in place: on return `gate` holds dgate and `up` holds dup.
/// `du = dy·silu(g)`, `dg = dy·u·σ(g)·(1 + g·(1 − σ(g)))`.
///
/// # Panics
/// If the two are stored in different formats.
pub fn swiglu_backward(gate: MatrixMut<'_>, up: MatrixMut<'_>, dy: &[f32]) {
    match (gate, up) {
        (MatrixMut::F32(gate), MatrixMut::F32(up)) => swiglu_backward_all(gate, up, dy),
        (MatrixMut::Bf16(gate), MatrixMut::Bf16(up)) => swiglu_backward_all(gate, up, dy),
        _ => unreachable!("gate and up are kept in one format"),
    }
}

fn swiglu_backward_all<T: Element>(gate: &mut [T], up: &mut [T], dy: &[f32]) {
    let ups = SharedMut::new(up);
    for_each_chunk(gate, |first, block| {
        // SAFETY: the blocks of `gate` are disjoint, and so are the same ranges of `up`.
        let up = unsafe { ups.slice(first, block.len()) };
        swiglu_backward_block(block, up, &dy[first..first + block.len()]);
    });
}

crate::isa::multiversion! {
    fn swiglu_backward_block<T: Element>(gate: &mut [T], up: &mut [T], dy: &[f32]) = swiglu_backward_body
}

#[inline(always)]
fn swiglu_backward_body<T: Element>(gate: &mut [T], up: &mut [T], dy: &[f32]) {
    for ((gate, up), dy) in gate.iter_mut().zip(up).zip(dy) {
        let (g, u) = (gate.get(), up.get());
        let s = sigmoid(g);
        *up = T::put(dy * g * s);
        *gate = T::put(dy * u * s * (1.0 + g * (1.0 - s)));
    }
}

/// Inverted dropout with a mask that is a function of the stream and the element's index.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Where the mask comes from.
    pub stream: Stream,
    /// Probability of a zero, in [0, 1).
    pub probability: f32,
}

impl Dropout {
    /// `y = mask · x / (1 − p)`.
    ///
    /// # Panics
    /// If the two are stored in different formats, or in NF4.
    pub fn apply<'a>(&self, x: impl Into<Matrix<'a>>, y: MatrixMut<'_>) {
        match (x.into(), y) {
            (Matrix::F32(x), MatrixMut::F32(y)) => self.apply_all(x, y),
            (Matrix::Bf16(x), MatrixMut::Bf16(y)) => self.apply_all::<bf16>(x, y),
            _ => unreachable!("dropout keeps the format of activations"),
        }
    }

    fn apply_all<T: Element>(&self, x: &[T], y: &mut [T]) {
        for_each_chunk(y, |first, block| {
            mask_block(*self, first, &x[first..first + block.len()], block);
        });
    }

    /// The backward pass: `dx += mask · g / (1 − p)`.
    pub fn add_backward(&self, g: &[f32], dx: &mut [f32]) {
        for_each_chunk(dx, |first, block| {
            add_mask_block(*self, first, &g[first..first + block.len()], block);
        });
    }

    /// What elements `2 * pair` and `2 * pair + 1` are multiplied by: sixteen random bits decide on each.
    #[inline(always)]
    fn factors(self, pair: usize) -> [f32; 2] {
        let threshold = (self.probability * 65_536.0).round() as u32;
        let scale = 1.0 / (1.0 - self.probability);
        let bits = self.stream.bits(pair as u64);
        let factor = |bits: u32| if bits >= threshold { scale } else { 0.0 };
        [factor(bits & 0xffff), factor(bits >> 16)]
    }
}

crate::isa::multiversion! {
    fn mask_block<T: Element>(dropout: Dropout, first: usize, x: &[T], y: &mut [T]) = mask_body
}

/// `first` is even, as the first element of every chunk is.
#[inline(always)]
fn mask_body<T: Element>(dropout: Dropout, first: usize, x: &[T], y: &mut [T]) {
    let (pairs, rest) = y.as_chunks_mut::<2>();
    for (pair, (y, x)) in pairs.iter_mut().zip(x.as_chunks::<2>().0).enumerate() {
        let factors = dropout.factors(first / 2 + pair);
        *y = [T::put(x[0].get() * factors[0]), T::put(x[1].get() * factors[1])];
    }
    if let (Some(y), Some(x)) = (rest.first_mut(), x.last()) {
        *y = T::put(x.get() * dropout.factors(first / 2 + pairs.len())[0]);
    }
}

crate::isa::multiversion! {
    fn add_mask_block(dropout: Dropout, first: usize, g: &[f32], dx: &mut [f32]) = add_mask_body
}

/// Same as [`mask_body`].
#[inline(always)]
fn add_mask_body(dropout: Dropout, first: usize, g: &[f32], dx: &mut [f32]) {
    let (pairs, rest) = dx.as_chunks_mut::<2>();
    for (pair, (dx, g)) in pairs.iter_mut().zip(g.as_chunks::<2>().0).enumerate() {
        let factors = dropout.factors(first / 2 + pair);
        *dx = [dx[0] + g[0] * factors[0], dx[1] + g[1] * factors[1]];
    }
    if let (Some(dx), Some(g)) = (rest.first_mut(), g.last()) {
        *dx += g * dropout.factors(first / 2 + pairs.len())[0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swiglu_backward_is_the_derivative() {
        let gate: Vec<f32> = (0..50).map(|i| i as f32 * 0.2 - 5.0).collect();
        let up: Vec<f32> = (0..50).map(|i| (i as f32 * 0.7).sin()).collect();
        let dy: Vec<f32> = (0..50).map(|i| (i as f32 * 0.3).cos()).collect();
        let value = |g: f64, u: f64| g / (1.0 + (-g).exp()) * u;
        let (mut dgate, mut dup) = (gate.clone(), up.clone());
        swiglu_backward((&mut dgate).into(), (&mut dup).into(), &dy);
        for i in 0..50 {
            let (g, u, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dy[i]));
            let by_gate = d * (value(g + 1e-5, u) - value(g - 1e-5, u)) / 2e-5;
            let by_up = d * (value(g, u + 1e-5) - value(g, u - 1e-5)) / 2e-5;
            assert!((f64::from(dgate[i]) - by_gate).abs() < 1e-5, "dgate {i}");
            assert!((f64::from(dup[i]) - by_up).abs() < 1e-5, "dup {i}");
        }
    }

    #[test]
    fn dropout_keeps_the_mean_and_does_not_depend_on_the_split() {
        let dropout = Dropout {
            stream: Stream::new(&[3]),
            probability: 0.25,
        };
        let x = vec![1.0; 100_001];
        let mut y = vec![0.0; x.len()];
        dropout.apply(&x, (&mut y).into());
        let mean = y.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
        let mut again = vec![0.0; x.len()];
        mask_body(dropout, 0, &x, &mut again);
        assert_eq!(y, again);
        // the backward pass sees the same mask, whole and in two parts
        let mut gradient = vec![0.0; x.len()];
        dropout.add_backward(&x, &mut gradient);
        assert_eq!(y, gradient);
        let mut parts = vec![0.0; x.len()];
        add_mask_body(dropout, 0, &x[..5000], &mut parts[..5000]);
        add_mask_body(dropout, 5000, &x[5000..], &mut parts[5000..]);
        assert_eq!(y, parts);
    }
}
