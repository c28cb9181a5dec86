//! ggml's stored blocks, unpacked into codes and scales. Source: ggml-common.h, `dequantize_row_*` in ggml-quants.c.
//!
//! What this is not: their values; `weight` has those of a packed weight.

use half::f16;

use super::PackedFormat;

/// What is stored together, unpacked: a block, or a super-block of eight.
pub(super) struct Unpacked {
    /// Of each input, as stored (plus the format's offset).
    pub(super) codes: [u8; 256],
    /// The scale, or the unit of the scales.
    pub(super) scale: f16,
    /// The unit of the minima.
    pub(super) minimum: f16,
    /// Of each block of a K-quant: its scale and minimum, or the scales of its halves (Q6_K, as two's complement).
    pub(super) parts: [[u8; 2]; 8],
}

impl Unpacked {
    /// Unpacks one block or super-block.
    pub(super) fn new(kind: PackedFormat, stored: &[u8]) -> Self {
        let half = |at: usize| f16::from_le_bytes([stored[at], stored[at + 1]]);
        let mut out = Self {
            codes: [0; 256],
            scale: f16::ZERO,
            minimum: f16::ZERO,
            parts: [[0; 2]; 8],
        };
        match kind {
            PackedFormat::Nf4 => unreachable!("ggml has no NF4"),
            PackedFormat::Q4_0 => {
                out.scale = half(0);
                // sixteen low nibbles, then the high ones of the same bytes
                for input in 0..32 {
                    out.codes[input] = stored[2 + input % 16] >> (input / 16 * 4) & 15;
                }
            }
            PackedFormat::Q8_0 => {
                out.scale = half(0);
                for input in 0..32 {
                    out.codes[input] = stored[2 + input] ^ 128;
                }
            }
            PackedFormat::Q4K | PackedFormat::Q5K => {
                (out.scale, out.minimum) = (half(0), half(2));
                let fifth = &stored[16..];
                let nibbles = &stored[if kind == PackedFormat::Q4K { 16 } else { 48 }..];
                for (block, part) in out.parts.iter_mut().enumerate() {
                    *part = scale_and_minimum(&stored[4..16], block);
                    for input in 0..32 {
                        let code = nibbles[block / 2 * 32 + input] >> (block % 2 * 4) & 15;
                        let high = if kind == PackedFormat::Q5K {
                            (fifth[input] >> block & 1) << 4
                        } else {
                            0
                        };
                        out.codes[block * 32 + input] = code | high;
                    }
                }
            }
            PackedFormat::Q6K => {
                out.scale = half(208);
                for block in 0..8 {
                    // 128 inputs take 64 bytes of nibbles and 32 of upper pairs, in four groups of 32
                    let (side, group) = (block / 4, block % 4);
                    out.parts[block] = [192 + side * 8 + group * 2, 193 + side * 8 + group * 2].map(|at| stored[at]);
                    for input in 0..32 {
                        let low = stored[side * 64 + group % 2 * 32 + input] >> (group / 2 * 4) & 15;
                        let high = stored[128 + side * 32 + input] >> (group * 2) & 3;
                        out.codes[block * 32 + input] = low | high << 4;
                    }
                }
            }
        }
        out
    }
}

/// The 6-bit scale and minimum of one of eight blocks, packed into 12 bytes.
fn scale_and_minimum(packed: &[u8], block: usize) -> [u8; 2] {
    if block < 4 {
        return [packed[block] & 63, packed[block + 4] & 63];
    }
    let low = packed[block + 4];
    [
        low & 15 | packed[block - 4] >> 6 << 4,
        low >> 4 | packed[block] >> 6 << 4,
    ]
}
