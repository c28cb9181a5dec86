//! The LoRA branch of a linear layer: `y += s·(M⊙x)·Aᵀ·Bᵀ`. A and B may be on the tape; the mask is frozen.

use candle_core::{DType, Device, Result, Tensor};
use synapse_kernels::elementwise::Dropout;

use crate::frozen;

/// A layer's branches by slot, in the order of `ModelConfig::linear_modules`.
pub(crate) type Branches = [Option<Branch>; 7];

/// No branch anywhere: the bare base.
pub(crate) const BARE: Branches = [const { None }; 7];

/// One adapted module.
#[derive(Debug, Clone)]
pub(crate) struct Branch {
    /// `[rank, in]`, f32.
    pub(crate) a: Tensor,
    /// `[out, rank]`, f32.
    pub(crate) b: Tensor,
    /// `alpha / rank` or `alpha / √rank`.
    pub(crate) scale: f64,
    /// Only in training.
    pub(crate) mask: Option<Mask>,
}

impl Branch {
    /// `y` plus the branch's output for `x`, in x's dtype.
    pub(crate) fn add_to(&self, y: &Tensor, x: &Tensor) -> Result<Tensor> {
        let factor = |matrix: &Tensor| matrix.to_dtype(x.dtype())?.t();
        let (x, scale) = match &self.mask {
            None => (x.clone(), self.scale),
            Some(mask) => (frozen::multiply(x, &mask.kept)?, self.scale * mask.gain),
        };
        let hidden = (x.matmul(&factor(&self.a)?)? * scale)?;
        y + hidden.matmul(&factor(&self.b)?)?
    }
}

/// Inverted dropout of a branch's input.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    /// `[t, in]`: one where an element is kept, zero elsewhere.
    kept: Tensor,
    /// `1 / (1 − p)`.
    gain: f64,
}

impl Mask {
    /// The mask that the kernels apply, drawn on the host and carried over at a byte an element.
    pub(crate) fn draw(dropout: Dropout, shape: (usize, usize), dtype: DType, device: &Device) -> Result<Self> {
        let mut factors = vec![0.0; shape.0 * shape.1];
        dropout.add_backward(&vec![1.0; factors.len()], &mut factors);
        let kept: Vec<u8> = factors.into_iter().map(|value| u8::from(value != 0.0)).collect();
        let kept = Tensor::from_vec(kept, shape, device)?.to_dtype(dtype)?;
        Ok(Self {
            kept,
            gain: 1.0 / (1.0 - f64::from(dropout.probability)),
        })
    }
}
