//! The linear layer with an optional LoRA branch: `y = x·Wᵀ + b + s·(M⊙x)·Aᵀ·Bᵀ`.
//!
//! With W frozen, neither its gradient nor the product B·A is ever formed (Hu et al. 2021). The base product
//! and the branch are one sum, so the output is written once.

use std::sync::Arc;

use synapse_kernels::{
    Accumulate, Matrix, Precision, Shape,
    elementwise::{self, Dropout},
    gemm::{Left, Product, Right, Sum, Term},
};

use crate::{
    lora_branch::LoraBranch,
    pool::{Activation, Pool},
    tensor::Tensor,
};

#[cfg(test)]
mod tests;

/// A frozen or trainable linear layer, weight `[output, input]`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// The module's full name, by which an adapter knows it.
    pub(crate) module: Arc<str>,
}

/// In which order forward products sum, which decides whether a row's bits depend on its neighbors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReductionOrder {
    /// Whichever is fastest for the number of rows: training.
    Fastest,
    /// By packed panels. Batch-invariant: a row's bits do not depend on the number of rows.
    Panels,
    /// By dot products. Batch-invariant too, and cheap for few rows.
    DotProducts,
}

impl ReductionOrder {
    /// Computes a sum of products into `y [m, n]`.
    pub(crate) fn compute(self, sum: &Sum<'_>, y: &mut [f32]) {
        match self {
            Self::Fastest => sum.compute(y, sum.n),
            Self::Panels => sum.compute_panels(y, sum.n),
            Self::DotProducts => sum.compute_dots(y, sum.n),
        }
    }
}

/// What one layer's products have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Tokens.
    pub(crate) count: usize,
    pub(crate) precision: Precision,
    /// Of forward products; backward ones have many rows.
    pub(crate) order: ReductionOrder,
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

    /// The forward product of some terms into `y [t, n]`.
    pub(crate) fn forward(&self, n: usize, terms: &[Term<'_>], accumulate: Accumulate, y: &mut [f32]) {
        let sum = self.sum(n, terms, accumulate);
        self.order.compute(&sum, y);
    }

    fn sum<'a>(&self, n: usize, terms: &'a [Term<'a>], accumulate: Accumulate) -> Sum<'a> {
        Sum {
            m: self.count,
            n,
            terms,
            accumulate,
            precision: self.precision,
        }
    }
}

impl Linear {
    /// `x·Wᵀ`
    fn base_term<'a>(&'a self, parameters: &'a [f32], x: Matrix<'a>) -> Term<'a> {
        Term {
            left: Left::rows(x, self.input),
            right: Right::transposed(self.weight.matrix(parameters), self.input),
            k: self.input,
            scale: 1.0,
        }
    }

    /// `x·Aᵀ`
    fn hidden_term<'a>(&self, lora: &LoraBranch<'a>, x: Matrix<'a>) -> Term<'a> {
        Term {
            left: Left::rows(x, self.input),
            right: Right::transposed(lora.a, self.input),
            k: self.input,
            scale: 1.0,
        }
    }

    /// `s·H·Bᵀ`
    fn branch_term<'a>(lora: &LoraBranch<'a>, hidden: Matrix<'a>) -> Term<'a> {
        Term {
            left: Left::rows(hidden, lora.rank),
            right: Right::transposed(lora.b, lora.rank),
            k: lora.rank,
            scale: lora.scale,
        }
    }

    pub(crate) fn add_bias(&self, rows: Rows, parameters: &[f32], y: &mut [f32]) {
        if let Some(bias) = &self.bias {
            elementwise::add_bias(&mut y[..rows.count * self.output], bias.vector(parameters));
        }
    }

    /// `y [t, output] (+)= x·Wᵀ + b`.
    pub(crate) fn forward(&self, rows: Rows, parameters: &[f32], x: Matrix<'_>, y: &mut [f32], accumulate: Accumulate) {
        let terms = [self.base_term(parameters, x)];
        rows.forward(self.output, &terms, accumulate, y);
        self.add_bias(rows, parameters, y);
    }

    /// `H = (M⊙x)·Aᵀ`, `[t, rank]`.
    fn hidden(&self, rows: Rows, lora: LoraBranch<'_>, x: Matrix<'_>, pool: &mut Pool) -> Activation {
        let masked = masked(lora.dropout, x, rows, pool);
        let mut hidden = pool.take(rows.count * lora.rank);
        let term = self.hidden_term(&lora, masked.as_ref().map_or(x, Activation::matrix));
        rows.forward(lora.rank, &[term], Accumulate::Overwrite, &mut hidden);
        if let Some(masked) = masked {
            pool.release(masked);
        }
        pool.keep(hidden, rows.precision)
    }

    /// As [`Linear::forward`] with the branch; returns `H` for the backward pass.
    pub(crate) fn forward_adapted(
        &self,
        rows: Rows,
        weights: (&[f32], LoraBranch<'_>),
        x: Matrix<'_>,
        (y, accumulate): (&mut [f32], Accumulate),
        pool: &mut Pool,
    ) -> Activation {
        let (parameters, lora) = weights;
        let hidden = self.hidden(rows, lora, x, pool);
        let terms = [self.base_term(parameters, x), Self::branch_term(&lora, hidden.matrix())];
        rows.forward(self.output, &terms, accumulate, y);
        self.add_bias(rows, parameters, y);
        hidden
    }

    /// `dW += dyᵀ·x` and `db += Σ dy`, where those are trained.
    fn weight_gradient(&self, rows: Rows, x: Matrix<'_>, dy: Matrix<'_>, gradients: &mut [f32], pool: &mut Pool) {
        if let Some(range) = self.weight.range() {
            Product {
                accumulate: Accumulate::Add,
                ..rows.product(
                    (self.output, self.input, rows.count),
                    Left::transposed(dy, self.output),
                    Right::rows(x, self.input),
                )
            }
            .compute(&mut gradients[range], self.input);
        }
        if let Some(range) = self.bias.as_ref().and_then(Tensor::range) {
            let mut wide = pool.take(rows.count * self.output);
            dy.widen(0, &mut wide);
            elementwise::bias_gradient(&wide, &mut gradients[range]);
            pool.give(wide);
        }
    }
}

/// Rows of one linear under one adapter: `y [t, output] += s·x·Aᵀ·Bᵀ`, onto what the base's product has filled.
pub(crate) struct BranchRows<'a> {
    pub(crate) linear: &'a Linear,
    pub(crate) lora: LoraBranch<'a>,
    pub(crate) rows: Rows,
    pub(crate) x: Matrix<'a>,
    pub(crate) y: &'a mut [f32],
}

/// Adds branches that do not depend on each other, of any adapters. Generated tokens are few rows: their products are
/// made together, first all with A, then all with B.
pub(crate) fn add_loras(branches: Vec<BranchRows<'_>>, pool: &mut Pool) {
    let (together, apart): (Vec<_>, Vec<_>) = branches
        .into_iter()
        .partition(|branch| branch.rows.order == ReductionOrder::DotProducts && branch.lora.dropout.is_none());
    for BranchRows {
        linear,
        lora,
        rows,
        x,
        y,
    } in apart
    {
        let hidden = linear.hidden(rows, lora, x, pool);
        let terms = [Linear::branch_term(&lora, hidden.matrix())];
        rows.forward(linear.output, &terms, Accumulate::Add, y);
        pool.release(hidden);
    }
    let terms: Vec<_> = together.iter().map(|branch| [branch.hidden_term()]).collect();
    let mut hidden: Vec<_> = together
        .iter()
        .map(|branch| pool.take(branch.rows.count * branch.lora.rank)) // [t, rank]
        .collect();
    let mut sums: Vec<_> = together
        .iter()
        .zip(&terms)
        .zip(&mut hidden)
        .map(|((branch, terms), hidden)| {
            let sum = branch.rows.sum(branch.lora.rank, terms, Accumulate::Overwrite);
            (sum, &mut **hidden)
        })
        .collect();
    Sum::compute_dots_together(&mut sums);
    drop(sums);
    let hidden: Vec<_> = hidden
        .into_iter()
        .zip(&together)
        .map(|(hidden, branch)| pool.keep(hidden, branch.rows.precision))
        .collect();
    let terms: Vec<_> = together
        .iter()
        .zip(&hidden)
        .map(|(branch, hidden)| [Linear::branch_term(&branch.lora, hidden.matrix())])
        .collect();
    let mut sums: Vec<_> = together
        .into_iter()
        .zip(&terms)
        .map(|(branch, terms)| (branch.rows.sum(branch.linear.output, terms, Accumulate::Add), branch.y))
        .collect();
    Sum::compute_dots_together(&mut sums);
    drop(sums);
    drop(terms);
    hidden.into_iter().for_each(|hidden| pool.release(hidden));
}

impl<'a> BranchRows<'a> {
    /// `x·Aᵀ`
    fn hidden_term(&self) -> Term<'a> {
        self.linear.hidden_term(&self.lora, self.x)
    }
}

/// One linear in the backward pass of several that share their input.
pub(crate) struct LinearBackward<'a> {
    pub(crate) linear: &'a Linear,
    pub(crate) branch: Option<SavedBranch<'a>>,
    /// The gradient of the output, `[t, output]`.
    pub(crate) dy: Matrix<'a>,
}

/// A branch in the backward pass.
pub(crate) struct SavedBranch<'a> {
    pub(crate) lora: LoraBranch<'a>,
    /// `H` of the forward pass.
    pub(crate) hidden: &'a Activation,
}

/// The backward pass of linears with the common input `x [t, input]`: `dx (+)= Σ dy·W + M⊙(G·A)`, and adds
/// to the weights' and branches' gradients.
pub(crate) fn backward(
    rows: Rows,
    parameters: &[f32],
    entries: &[LinearBackward<'_>],
    x: Matrix<'_>,
    (dx, accumulate): (&mut [f32], Accumulate),
    (gradients, pool): (&mut [f32], &mut Pool),
) {
    let input = entries.first().map_or(0, |entry| entry.linear.input);
    let mut inner = Vec::with_capacity(entries.len()); // G [t, rank] of each
    for entry in entries {
        entry.linear.weight_gradient(rows, x, entry.dy, gradients, pool);
        let branch = entry.branch.as_ref();
        inner.push(branch.map(|branch| branch.backward(rows, entry, x, gradients, pool)));
    }
    let mut terms = Vec::with_capacity(2 * entries.len());
    let mut masked = Vec::new();
    for (entry, inner) in entries.iter().zip(&inner) {
        terms.push(Term {
            left: Left::rows(entry.dy, entry.linear.output),
            right: Right::rows(entry.linear.weight.matrix(parameters), input),
            k: entry.linear.output,
            scale: 1.0,
        });
        if let (Some(SavedBranch { lora, .. }), Some(inner)) = (&entry.branch, inner) {
            let term = Term {
                left: Left::rows(inner.matrix(), lora.rank),
                right: Right::rows(lora.a, input),
                k: lora.rank,
                scale: 1.0,
            };
            match lora.dropout {
                None => terms.push(term),
                Some(dropout) => masked.push((dropout, term)),
            }
        }
    }
    rows.sum(input, &terms, accumulate).compute(dx, input);
    for (dropout, term) in masked {
        let mut through = pool.take(rows.count * input);
        rows.sum(input, &[term], Accumulate::Overwrite)
            .compute(&mut through, input);
        dropout.add_backward(&through, dx);
        pool.give(through);
    }
    inner.into_iter().flatten().for_each(|inner| pool.release(inner));
}

impl SavedBranch<'_> {
    /// `dB += s·dyᵀ·H`, `dA += Gᵀ·(M⊙x)`; returns `G = s·dy·B`.
    fn backward(
        &self,
        rows: Rows,
        entry: &LinearBackward<'_>,
        x: Matrix<'_>,
        gradients: &mut [f32],
        pool: &mut Pool,
    ) -> Activation {
        let (lora, count, rank) = (&self.lora, rows.count, self.lora.rank);
        let (input, output) = (entry.linear.input, entry.linear.output);
        if let Some(gradient) = lora.gradients {
            Product {
                scale: lora.scale,
                accumulate: Accumulate::Add,
                ..rows.product(
                    (output, rank, count),
                    Left::transposed(entry.dy, output),
                    Right::rows(self.hidden.matrix(), rank),
                )
            }
            .compute(&mut gradients[gradient.b..gradient.b + output * rank], rank);
        }
        let mut inner = pool.take(count * rank);
        Product {
            scale: lora.scale,
            ..rows.product(
                (count, rank, output),
                Left::rows(entry.dy, output),
                Right::rows(lora.b, rank),
            )
        }
        .compute(&mut inner, rank);
        let inner = pool.keep(inner, rows.precision);
        if let Some(gradient) = lora.gradients {
            let masked = masked(lora.dropout, x, rows, pool);
            Product {
                accumulate: Accumulate::Add,
                ..rows.product(
                    (rank, input, count),
                    Left::transposed(inner.matrix(), rank),
                    Right::rows(masked.as_ref().map_or(x, Activation::matrix), input),
                )
            }
            .compute(&mut gradients[gradient.a..gradient.a + rank * input], input);
            if let Some(masked) = masked {
                pool.release(masked);
            }
        }
        inner
    }
}

fn masked(dropout: Option<Dropout>, x: Matrix<'_>, rows: Rows, pool: &mut Pool) -> Option<Activation> {
    dropout.map(|dropout| {
        let mut y = pool.activation(x.len(), rows.precision);
        dropout.apply(x, y.target());
        y
    })
}
