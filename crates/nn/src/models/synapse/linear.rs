//! Linear layers over the flat buffer, forward and backward: `y = x·Wᵀ + b`, and under an adapter `+ s·(M⊙x)·Aᵀ·Bᵀ`.
//!
//! Under an adapter that is trained W is frozen, and neither its gradient nor B·A is ever formed (Hu et al. 2021).
//!
//! The decoders' linear (`crate::linear`) is another one: it keeps activations in the products' precision, in pooled
//! buffers, and sums base and branch in one product, which rounds differently.

use std::{ops::Range, sync::Arc};

use synapse_kernels::{
    Accumulate, Precision, Shape, elementwise,
    gemm::{Left, Product, Right, Sum, Term},
};

use crate::{
    adapter_source::AdapterSource,
    linear::ReductionOrder,
    lora_branch::{LoraBranch, LoraGradients},
};

use super::layout::Layout;

/// The weights and how products with them are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// The flat buffer.
    pub(crate) values: &'a [f32],
    pub(crate) precision: Precision,
    pub(crate) order: ReductionOrder,
    /// The adapter over them.
    pub(crate) adapter: Option<AdapterSource<'a>>,
}

impl<'a> Weights<'a> {
    /// The same with products that do not round: for gates and choices, which a rounded factor would tip over.
    pub(crate) fn exact(self) -> Self {
        Self {
            precision: Precision::F32,
            ..self
        }
    }

    /// `y [t, n]`, the sum of some products.
    pub(crate) fn sum(&self, terms: &[Term<'_>], y: &mut [f32], n: usize) {
        let sum = Sum {
            m: y.len() / n,
            n,
            terms,
            accumulate: Accumulate::Overwrite,
            precision: self.precision,
        };
        self.order.compute(&sum, y);
    }

    /// A product of the backward pass, `[m, n]` summed over k, with a factor on it.
    fn product<'b>(
        &self,
        (m, n, k): (usize, usize, usize),
        left: Left<'b>,
        right: Right<'b>,
        (scale, accumulate): (f32, Accumulate),
    ) -> Product<'b> {
        Product {
            shape: Shape { m, n, k },
            left,
            right,
            scale,
            accumulate,
            precision: self.precision,
        }
    }

    /// A tensor of the flat buffer.
    pub(crate) fn of(&self, range: &Range<usize>) -> &'a [f32] {
        &self.values[range.clone()]
    }
}

/// A linear layer, weight `[output, input]`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// The module's name, under which an adapter knows it.
    module: Arc<str>,
    /// The first of the module's outputs that this layer has.
    first: usize,
}

impl Linear {
    /// The layer whose tensors are `{module}.weight` and, where it has one, `{module}.bias`.
    pub(crate) fn new(layout: &Layout, module: &str, bias: bool, input: usize, output: usize) -> Self {
        Self {
            weight: layout.range(&format!("{module}.weight")),
            bias: bias.then(|| layout.range(&format!("{module}.bias"))),
            input,
            output,
            module: module.into(),
            first: 0,
        }
    }

    /// The layer over a tensor of another name, which no adapter changes.
    pub(crate) fn over(weight: Range<usize>, input: usize, output: usize) -> Self {
        Self {
            weight,
            bias: None,
            input,
            output,
            module: "".into(),
            first: 0,
        }
    }

    /// Where the weight lies.
    pub(crate) fn weight(&self) -> Range<usize> {
        self.weight.clone()
    }

    /// The layer of `count` of the outputs from `first` on.
    pub(crate) fn rows(&self, first: usize, count: usize) -> Self {
        let start = self.weight.start + first * self.input;
        Self {
            weight: start..start + count * self.input,
            bias: self
                .bias
                .as_ref()
                .map(|bias| bias.start + first..bias.start + first + count),
            input: self.input,
            output: count,
            module: Arc::clone(&self.module),
            first: self.first + first,
        }
    }

    /// `x [t, input]` → `[t, output]`.
    pub(crate) fn forward(&self, weights: Weights<'_>, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.input * self.output];
        let term = |left, right, k, scale| Term { left, right, k, scale };
        let base = term(
            Left::rows(x, self.input),
            Right::transposed(weights.of(&self.weight), self.input),
            self.input,
            1.0,
        );
        let branch = self.branch(weights);
        let hidden = branch.as_ref().map(|branch| self.hidden(weights, branch, x)); // [t, rank]
        let mut terms = vec![base];
        if let (Some(branch), Some(hidden)) = (&branch, &hidden) {
            let rows = branch.b.tail(self.first * branch.rank);
            terms.push(term(
                Left::rows(hidden, branch.rank),
                Right::transposed(rows, branch.rank),
                branch.rank,
                branch.scale,
            ));
        }
        weights.sum(&terms, &mut y, self.output);
        if let Some(bias) = &self.bias {
            elementwise::add_bias(&mut y, weights.of(bias));
        }
        y
    }

    fn branch<'a>(&self, weights: Weights<'a>) -> Option<LoraBranch<'a>> {
        weights.adapter?.branch(&self.module)
    }

    /// `H = (M⊙x)·Aᵀ`, `[t, rank]`.
    fn hidden(&self, weights: Weights<'_>, branch: &LoraBranch<'_>, x: &[f32]) -> Vec<f32> {
        let masked = masked(branch, x);
        let mut hidden = vec![0.0; x.len() / self.input * branch.rank];
        let term = Term {
            left: Left::rows(masked.as_deref().unwrap_or(x), self.input),
            right: Right::transposed(branch.a, self.input),
            k: self.input,
            scale: 1.0,
        };
        weights.sum(&[term], &mut hidden, branch.rank);
        hidden
    }

    /// Adds to the gradients of the input `dx` and, of the layer, to those of what is trained.
    pub(crate) fn backward(&self, weights: Weights<'_>, x: &[f32], dy: &[f32], dx: &mut [f32], gradients: &mut [f32]) {
        let count = x.len() / self.input;
        if count == 0 {
            return;
        }
        let added = (1.0, Accumulate::Add);
        // dx [t, input] += dy · W
        let weight = Right::rows(weights.of(&self.weight), self.input);
        weights
            .product(
                (count, self.input, self.output),
                Left::rows(dy, self.output),
                weight,
                added,
            )
            .compute(dx, self.input);
        if weights.adapter.is_some() {
            if let Some(branch) = self.branch(weights) {
                self.branch_backward(weights, &branch, (x, dy), dx, gradients);
            }
            return;
        }
        // dW [output, input] += dyᵀ · x
        let left = Left::transposed(dy, self.output);
        weights
            .product(
                (self.output, self.input, count),
                left,
                Right::rows(x, self.input),
                added,
            )
            .compute(&mut gradients[self.weight.clone()], self.input);
        if let Some(bias) = &self.bias {
            elementwise::bias_gradient(dy, &mut gradients[bias.clone()]);
        }
    }

    /// `dB += s·dyᵀ·H`, `G = s·dy·B`, `dA += Gᵀ·(M⊙x)`, `dx += M⊙(G·A)`.
    fn branch_backward(
        &self,
        weights: Weights<'_>,
        branch: &LoraBranch<'_>,
        (x, dy): (&[f32], &[f32]),
        dx: &mut [f32],
        gradients: &mut [f32],
    ) {
        let (count, rank) = (x.len() / self.input, branch.rank);
        let scaled = (branch.scale, Accumulate::Overwrite);
        let added = (1.0, Accumulate::Add);
        let mut inner = vec![0.0; count * rank]; // G [t, rank]
        let b = branch.b.tail(self.first * rank);
        weights
            .product(
                (count, rank, self.output),
                Left::rows(dy, self.output),
                Right::rows(b, rank),
                scaled,
            )
            .compute(&mut inner, rank);
        if let Some(LoraGradients { a, b }) = branch.gradients {
            let hidden = self.hidden(weights, branch, x);
            let start = b + self.first * rank;
            let left = Left::transposed(dy, self.output);
            weights
                .product(
                    (self.output, rank, count),
                    left,
                    Right::rows(&hidden, rank),
                    (branch.scale, Accumulate::Add),
                )
                .compute(&mut gradients[start..start + self.output * rank], rank);
            let masked = masked(branch, x);
            let right = Right::rows(masked.as_deref().unwrap_or(x), self.input);
            weights
                .product((rank, self.input, count), Left::transposed(&inner, rank), right, added)
                .compute(&mut gradients[a..a + rank * self.input], self.input);
        }
        let a = Right::rows(branch.a, self.input);
        let shape = (count, self.input, rank);
        match branch.dropout {
            None => weights
                .product(shape, Left::rows(&inner, rank), a, added)
                .compute(dx, self.input),
            Some(dropout) => {
                let mut through = vec![0.0; x.len()];
                weights
                    .product(shape, Left::rows(&inner, rank), a, (1.0, Accumulate::Overwrite))
                    .compute(&mut through, self.input);
                dropout.add_backward(&through, dx);
            }
        }
    }
}

/// `M⊙x`, where there is a dropout mask.
fn masked(branch: &LoraBranch<'_>, x: &[f32]) -> Option<Vec<f32>> {
    branch.dropout.map(|dropout| {
        let mut y = vec![0.0; x.len()];
        dropout.apply(x, (&mut y).into());
        y
    })
}
