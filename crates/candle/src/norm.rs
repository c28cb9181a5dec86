//! RMSNorm from operations that have a backward pass: `y = w · x · (mean x² + ε)^-½`, in f32.

use candle_core::{D, DType, Result, Tensor};

use crate::frozen;

/// Normalizes the rows of `x`; `weight` is frozen and f32, the result has x's dtype.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let root = (wide.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?;
    frozen::multiply(&wide.broadcast_mul(&root.recip()?)?, weight)?.to_dtype(x.dtype())
}
