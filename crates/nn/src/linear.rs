//! The linear layer with an optional LoRA branch: `y = x·Wᵀ + b + s·(M⊙x)·Aᵀ·Bᵀ`.
//!
//! With W frozen, neither its gradient nor the product B·A is ever formed (Hu et al. 2021).

use std::ops::Range;

use synapse_kernels::{
    Accumulate, Matrix, Precision, Shape,
    elementwise::{self, Dropout},
    gemm::{Left, Product, Right},
};

use crate::{pool::Pool, tensor::Tensor};

/// A frozen or trainable linear layer, weight `[output, input]`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    pub(crate) input: usize,
    pub(crate) output: usize,
}

/// A LoRA branch: `a [rank, input]`, `b [output, rank]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lora<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: Option<Dropout>,
}

/// Where a branch's gradients go in the flat gradient buffer.
#[derive(Debug, Clone)]
pub(crate) struct LoraRanges {
    pub(crate) a: Range<usize>,
    pub(crate) b: Range<usize>,
}

/// What one layer's products have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Tokens.
    pub(crate) count: usize,
    pub(crate) precision: Precision,
}

impl Rows {
    fn product<'a>(&self, (m, n, k): (usize, usize, usize), left: Left<'a>, right: Right<'a>) -> Product<'a> {
        Product {
            shape: Shape { m, n, k },
            left,
            right,
            scale: 1.0,
            accumulate: Accumulate::Overwrite,
            precision: self.precision,
        }
    }
}

impl Linear {
    /// `y [t, output] = x·Wᵀ + b`.
    pub(crate) fn forward(&self, rows: Rows, parameters: &[f32], x: &[f32], y: &mut [f32]) {
        let weight = Right::transposed(self.weight.matrix(parameters), self.input);
        rows.product((rows.count, self.output, self.input), Left::rows(x, self.input), weight)
            .compute(y, self.output);
        if let Some(bias) = &self.bias {
            elementwise::add_bias(&mut y[..rows.count * self.output], bias.vector(parameters));
        }
    }

    /// `y += s·(M⊙x)·Aᵀ·Bᵀ`; `hidden [t, rank]` keeps `(M⊙x)·Aᵀ` for the backward pass.
    pub(crate) fn add_lora(
        &self,
        rows: Rows,
        lora: Lora<'_>,
        x: &[f32],
        y: &mut [f32],
        hidden: &mut [f32],
        pool: &mut Pool,
    ) {
        let masked = masked(lora.dropout, x, pool);
        let left = Left::rows(masked.as_deref().unwrap_or(x), self.input);
        rows.product(
            (rows.count, lora.rank, self.input),
            left,
            Right::transposed(Matrix::F32(lora.a), self.input),
        )
        .compute(hidden, lora.rank);
        Product {
            scale: lora.scale,
            accumulate: Accumulate::Add,
            ..rows.product(
                (rows.count, self.output, lora.rank),
                Left::rows(hidden, lora.rank),
                Right::transposed(Matrix::F32(lora.b), lora.rank),
            )
        }
        .compute(y, self.output);
        pool.give(masked.unwrap_or_default());
    }

    /// `dx (+)= dy·W`.
    pub(crate) fn input_gradient(
        &self,
        rows: Rows,
        parameters: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        accumulate: Accumulate,
    ) {
        let weight = Right::rows(self.weight.matrix(parameters), self.input);
        Product {
            accumulate,
            ..rows.product(
                (rows.count, self.input, self.output),
                Left::rows(dy, self.output),
                weight,
            )
        }
        .compute(dx, self.input);
    }

    /// `dW += dyᵀ·x` and `db += Σ dy`, where those are trained.
    pub(crate) fn weight_gradient(&self, rows: Rows, x: &[f32], dy: &[f32], gradients: &mut [f32]) {
        if let Some(range) = self.weight.range() {
            Product {
                accumulate: Accumulate::Add,
                ..rows.product(
                    (self.output, self.input, rows.count),
                    Left::transposed(dy, self.output),
                    Right::rows(Matrix::F32(x), self.input),
                )
            }
            .compute(&mut gradients[range], self.input);
        }
        if let Some(range) = self.bias.as_ref().and_then(Tensor::range) {
            elementwise::bias_gradient(&dy[..rows.count * self.output], &mut gradients[range]);
        }
    }

    /// The branch's backward pass: `dB += s·dyᵀ·H`, `G = s·dy·B`, `dA += Gᵀ·(M⊙x)`, `dx += M⊙(G·A)`.
    pub(crate) fn lora_backward(&self, rows: Rows, lora: Lora<'_>, pass: LoraBackward<'_>, pool: &mut Pool) {
        let LoraBackward {
            x,
            hidden,
            dy,
            dx,
            ranges,
            gradients,
        } = pass;
        let (count, rank) = (rows.count, lora.rank);
        Product {
            scale: lora.scale,
            accumulate: Accumulate::Add,
            ..rows.product(
                (self.output, rank, count),
                Left::transposed(dy, self.output),
                Right::rows(Matrix::F32(hidden), rank),
            )
        }
        .compute(&mut gradients[ranges.b.clone()], rank);
        let mut inner = pool.take(count * rank); // G [t, rank]
        Product {
            scale: lora.scale,
            ..rows.product(
                (count, rank, self.output),
                Left::rows(dy, self.output),
                Right::rows(Matrix::F32(lora.b), rank),
            )
        }
        .compute(&mut inner, rank);
        let masked = masked(lora.dropout, x, pool);
        Product {
            accumulate: Accumulate::Add,
            ..rows.product(
                (rank, self.input, count),
                Left::transposed(&inner, rank),
                Right::rows(Matrix::F32(masked.as_deref().unwrap_or(x)), self.input),
            )
        }
        .compute(&mut gradients[ranges.a.clone()], self.input);
        if let Some(dx) = dx {
            let back = rows.product(
                (count, self.input, rank),
                Left::rows(&inner, rank),
                Right::rows(Matrix::F32(lora.a), self.input),
            );
            match lora.dropout {
                None => Product {
                    accumulate: Accumulate::Add,
                    ..back
                }
                .compute(dx, self.input),
                Some(dropout) => {
                    let mut through = pool.take(count * self.input);
                    back.compute(&mut through, self.input);
                    dropout.apply_in_place(&mut through);
                    elementwise::add(dx, &through);
                    pool.give(through);
                }
            }
        }
        pool.give(inner);
        pool.give(masked.unwrap_or_default());
    }
}

/// Operands of a branch's backward pass.
pub(crate) struct LoraBackward<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) hidden: &'a [f32],
    pub(crate) dy: &'a [f32],
    /// `None` where nothing below needs the gradient.
    pub(crate) dx: Option<&'a mut [f32]>,
    pub(crate) ranges: &'a LoraRanges,
    pub(crate) gradients: &'a mut [f32],
}

fn masked(dropout: Option<Dropout>, x: &[f32], pool: &mut Pool) -> Option<Vec<f32>> {
    dropout.map(|dropout| {
        let mut y = pool.take(x.len());
        dropout.apply(x, &mut y);
        y
    })
}
