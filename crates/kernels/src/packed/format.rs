//! The formats of packed weights: what a code encodes, and how many inputs share a scale.

use super::QUAD;
use crate::nf4::CODE;

/// What codes encode, and how many inputs of a row share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedFormat {
    /// 4-bit NormalFloat, its sixteen levels rounded to 8 bits; f32 scales of 64 inputs.
    Nf4,
    /// ggml's Q4_0: a code from −8 to 7; f16 scales of 32 inputs.
    Q4_0,
    /// ggml's Q8_0: a code from −128 to 127; f16 scales of 32 inputs.
    Q8_0,
    /// ggml's Q4_K: a code from 0 to 15; 6-bit scales and minima of 32 inputs, in units of two f16 per 256 inputs.
    Q4K,
    /// ggml's Q5_K: the same with codes from 0 to 31.
    Q5K,
    /// ggml's Q6_K: a code from −32 to 31; 8-bit scales of 16 inputs, in units of an f16 per 256 inputs.
    Q6K,
}

impl PackedFormat {
    /// Inputs of a block, whose activations share a scale.
    pub const fn block(self) -> usize {
        match self {
            Self::Nf4 => 64,
            Self::Q4_0 | Self::Q8_0 | Self::Q4K | Self::Q5K | Self::Q6K => 32,
        }
    }

    /// Blocks that are stored together, as ggml's super-block.
    pub(super) const fn group(self) -> usize {
        if self.is_k() { 8 } else { 1 }
    }

    /// Whether scales have two levels: ggml's K-quants.
    pub(super) const fn is_k(self) -> bool {
        matches!(self, Self::Q4K | Self::Q5K | Self::Q6K)
    }

    /// The offset of a stored code above the value it encodes.
    pub(super) const fn offset(self) -> i32 {
        match self {
            Self::Nf4 | Self::Q8_0 => 128,
            Self::Q4_0 => 8,
            Self::Q4K | Self::Q5K => 0,
            Self::Q6K => 32,
        }
    }

    /// Lines per block of a tile: of nibbles, then of what the codes have beyond four bits.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Nf4 | Self::Q4_0 | Self::Q4K => self.nibble_lines(),
            Self::Q5K => self.nibble_lines() + 1,
            Self::Q6K => self.nibble_lines() + 2,
            Self::Q8_0 => self.block() / QUAD,
        }
    }

    /// Lines of nibbles per block.
    pub(super) const fn nibble_lines(self) -> usize {
        self.block() / (2 * QUAD)
    }

    /// A byte whose codes encode zero; K-quants of zeros have scales of zero.
    pub(super) const fn zero(self) -> u8 {
        match self {
            Self::Nf4 => 0x77,
            Self::Q4_0 => 0x88,
            Self::Q8_0 => 0x80,
            Self::Q4K | Self::Q5K | Self::Q6K => 0,
        }
    }

    /// Bytes that ggml stores together: a block, or a super-block of a K-quant.
    pub(super) const fn stored_bytes(self) -> usize {
        match self {
            Self::Nf4 | Self::Q4_0 => 2 + self.block() / 2,
            Self::Q8_0 => 2 + self.block(),
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }
}

/// NF4's levels in 8 bits, plus 128.
pub(super) const LEVELS: [u8; 16] = {
    let mut levels = [0; 16];
    let mut at = 0;
    while at < 16 {
        let scaled = CODE[at] * 127.0;
        // no level lies halfway between two steps
        let rounded = if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 };
        levels[at] = (128 + rounded as i32) as u8;
        at += 1;
    }
    levels
};
