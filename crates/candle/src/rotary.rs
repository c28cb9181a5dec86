//! Rotary position embedding in Hugging Face's layout: the two halves of a head turn against each other.

use candle_core::{D, DType, Device, Result, Tensor};

use crate::frozen;

/// Cosines and sines of some rows' positions, each `[t, 1, head_dim]`, both halves alike.
#[derive(Debug)]
pub(crate) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// The rotation of rows at these positions, computed in f32 and rounded to `dtype`.
    pub(crate) fn new(frequencies: &[f32], positions: &[u32], dtype: DType, device: &Device) -> Result<Self> {
        let shape = (positions.len(), 1, 2 * frequencies.len());
        let table = |function: fn(f32) -> f32| {
            let rows = positions.iter().flat_map(|&position| {
                frequencies
                    .iter()
                    .chain(frequencies)
                    .map(move |w| function(position as f32 * w))
            });
            Tensor::from_vec(rows.collect::<Vec<f32>>(), shape, device)?.to_dtype(dtype)
        };
        Ok(Self {
            cos: table(f32::cos)?,
            sin: table(f32::sin)?,
        })
    }

    /// Where the rotation lives.
    pub(crate) fn device(&self) -> &Device {
        self.cos.device()
    }

    /// Turns every head of `x [t, heads, head_dim]`.
    pub(crate) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let (low, high) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let turned = Tensor::cat(&[&high.neg()?, &low], D::Minus1)?;
        frozen::multiply(x, &self.cos)? + frozen::multiply(&turned, &self.sin)?
    }
}
