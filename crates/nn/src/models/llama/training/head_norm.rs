//! RMSNorm over each head of queries or keys, forward and backward, as Qwen3 has it.

use synapse_kernels::norm;

use crate::{
    pool::{Buffer, Pool},
    tensor::Tensor,
};

/// What the backward pass needs. Shapes: t tokens, w width of all heads.
pub(super) struct SavedHeadNorm {
    x: Buffer<f32>,       // [t, w], before the norm; f32, because the gradient reads it outside of products
    inverse: Buffer<f32>, // [t, heads]
}

impl SavedHeadNorm {
    /// The heads `x [t, w]`, normalized.
    pub(super) fn forward(x: Buffer<f32>, weight: &[f32], epsilon: f32, pool: &mut Pool) -> (Buffer<f32>, Self) {
        let (mut normed, mut inverse) = (pool.take(x.len()), pool.take(x.len() / weight.len()));
        norm::forward(&x, weight, epsilon, &mut normed, &mut inverse);
        (normed, Self { x, inverse })
    }

    /// The gradient of the heads from that of the normalized ones, `dy [t, w]`; adds the weight's own to `gradients`.
    pub(super) fn backward(
        &self,
        (weight, parameters): (&Tensor, &[f32]),
        dy: Buffer<f32>,
        gradients: &mut [f32],
        pool: &mut Pool,
    ) -> Buffer<f32> {
        if let Some(range) = weight.range() {
            norm::backward_weight(&self.x, &self.inverse, &dy, &mut gradients[range]);
        }
        let mut dx = pool.zeros(dy.len());
        norm::backward(&self.x, weight.vector(parameters), &self.inverse, &dy, &mut dx);
        pool.give(dy);
        dx
    }

    pub(super) fn release(self, pool: &mut Pool) {
        pool.give(self.x);
        pool.give(self.inverse);
    }
}
