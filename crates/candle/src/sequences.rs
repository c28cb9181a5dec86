//! The rows of one pass: documents laid end to end, each attending to itself alone, or the next tokens of one cached
//! sequence.

use candle_core::{DType, Device, Result, Tensor};

use crate::rotary::Rotation;

/// Added to the score of a masked key; finite, so that no row can become NaN.
const UNSEEN: f64 = 1e30;

/// The rows of one pass.
#[derive(Debug)]
pub(crate) struct Sequences {
    lengths: Vec<usize>,
    /// Positions before the first row, in the cache. Only with a single length.
    past: usize,
    pub(crate) rotation: Rotation,
    /// `[n, n]` for the longest sequence, cached positions included: 0 on and below the diagonal.
    causal: Tensor,
}

impl Sequences {
    /// Documents laid end to end, positions counted from 0 in each.
    pub(crate) fn documents(lengths: &[usize], frequencies: &[f32], dtype: DType, device: &Device) -> Result<Self> {
        let positions: Vec<u32> = lengths.iter().flat_map(|&length| 0..length as u32).collect();
        Self::new(lengths, 0, Rotation::new(frequencies, &positions, dtype, device)?)
    }

    /// `count` rows that follow `past` cached ones.
    pub(crate) fn continued(
        past: usize,
        count: usize,
        frequencies: &[f32],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let positions: Vec<u32> = (past as u32..(past + count) as u32).collect();
        Self::new(&[count], past, Rotation::new(frequencies, &positions, dtype, device)?)
    }

    fn new(lengths: &[usize], past: usize, rotation: Rotation) -> Result<Self> {
        let longest = past + lengths.iter().copied().max().unwrap_or(0);
        let causal = (Tensor::tril2(longest, DType::F32, rotation.device())? - 1.0)?.affine(UNSEEN, 0.0)?;
        Ok(Self {
            lengths: lengths.to_vec(),
            past,
            rotation,
            causal,
        })
    }

    /// Positions already in the cache.
    pub(crate) fn past(&self) -> usize {
        self.past
    }

    /// First row and rows of each sequence.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (usize, usize)> {
        self.lengths.iter().scan(0, |next, &length| {
            let first = std::mem::replace(next, *next + length);
            Some((first, length))
        })
    }

    /// The mask `[count, past + count]` of a sequence's rows; `None` where every row sees every key.
    pub(crate) fn mask(&self, count: usize) -> Result<Option<Tensor>> {
        if count == 1 {
            return Ok(None);
        }
        self.causal
            .narrow(0, self.past, count)?
            .narrow(1, 0, self.past + count)
            .map(Some)
    }
}
