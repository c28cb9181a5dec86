//! Blocks that several modules share: a causal convolution, a norm per head, a gate; forward and backward.

use std::ops::Range;

use synapse_kernels::{elementwise, head_norm, recurrent::conv};

use super::{layout::Layout, linear::Weights, recurrent_state::States};

/// A causal depthwise convolution with SiLU, `{module}.weight [channels, kernel]` and `{module}.bias`.
#[derive(Debug, Clone)]
pub(crate) struct CausalConv {
    /// Weight and, right behind it, bias.
    weight: Range<usize>,
    bias: Range<usize>,
    kernel: usize,
}

impl CausalConv {
    pub(crate) fn new(layout: &Layout, module: &str, kernel: usize) -> Self {
        Self {
            weight: layout.range(&format!("{module}.weight")),
            bias: layout.range(&format!("{module}.bias")),
            kernel,
        }
    }

    /// Values of a document's state: the last inputs of every channel.
    pub(crate) fn state_len(&self) -> usize {
        (self.kernel - 1) * self.bias.len()
    }

    fn of<'a>(&self, weights: Weights<'a>) -> conv::ConvFilter<'a> {
        conv::ConvFilter {
            weight: weights.of(&self.weight),
            bias: weights.of(&self.bias),
            width: self.kernel,
        }
    }

    /// `x [t, channels]` → `[t, channels]`.
    pub(crate) fn forward(
        &self,
        weights: Weights<'_>,
        x: &[f32],
        lengths: &[usize],
        states: &mut States<'_>,
    ) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        conv::forward(self.of(weights), x, lengths, states.as_deref_mut(), &mut y);
        y
    }

    /// The input's gradient; adds to the weights'.
    pub(crate) fn backward(
        &self,
        weights: Weights<'_>,
        (x, lengths): (&[f32], &[usize]),
        dy: &[f32],
        gradients: &mut [f32],
    ) -> Vec<f32> {
        let mut dx = vec![0.0; x.len()];
        let (weight, bias) = gradients[self.weight.start..self.bias.end].split_at_mut(self.weight.len());
        let targets = conv::ConvGradients {
            x: &mut dx,
            weight,
            bias,
        };
        conv::backward(self.of(weights), x, lengths, dy, targets);
        dx
    }
}

/// RMSNorm of each head's part of a row, `{module}.weight [heads · dim]`.
#[derive(Debug, Clone)]
pub(crate) struct HeadNorm {
    weight: Range<usize>,
    dim: usize,
}

impl HeadNorm {
    /// Added to the mean square.
    const EPSILON: f32 = 1e-6;

    pub(crate) fn new(layout: &Layout, module: &str, dim: usize) -> Self {
        Self {
            weight: layout.range(&format!("{module}.weight")),
            dim,
        }
    }

    pub(crate) fn forward(&self, weights: Weights<'_>, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        head_norm::rms(x, weights.of(&self.weight), self.dim, Self::EPSILON, &mut y);
        y
    }

    /// The input's gradient; adds to the weight's.
    pub(crate) fn backward(&self, weights: Weights<'_>, x: &[f32], dy: &[f32], gradients: &mut [f32]) -> Vec<f32> {
        let mut dx = vec![0.0; x.len()];
        let weight = weights.of(&self.weight);
        let target = &mut gradients[self.weight.clone()];
        head_norm::rms_backward(x, weight, (self.dim, Self::EPSILON), dy, &mut dx, target);
        dx
    }
}

/// Some columns of a matrix whose rows are `width` wide.
pub(crate) fn columns(x: &[f32], width: usize, wanted: Range<usize>) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len() / width * wanted.len());
    for row in x.chunks_exact(width) {
        out.extend_from_slice(&row[wanted.clone()]);
    }
    out
}

/// `values ⊙ silu(gate)`.
pub(crate) fn gated(values: &[f32], gate: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; values.len()];
    elementwise::swiglu(gate, values, &mut y);
    y
}

/// The gradients of [`gated`], in place of its operands.
pub(crate) fn gated_backward(values: &mut [f32], gate: &mut [f32], dy: &[f32]) {
    elementwise::swiglu_backward(gate.into(), values.into(), dy);
}
