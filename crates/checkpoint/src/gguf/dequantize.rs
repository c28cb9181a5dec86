//! ggml's block formats back to f32, operation for operation as ggml's reference does it, so results are equal to the
//! bit. Source: `dequantize_row_*` in ggml-quants.c.

use half::f16;

use super::TensorType;
use crate::dtype::DType;

/// Appends the elements of whole blocks to `out`. Bytes after the last whole block add nothing.
pub fn dequantize(tensor_type: TensorType, bytes: &[u8], out: &mut Vec<f32>) {
    match tensor_type {
        TensorType::F32 => DType::F32.extend_f32(bytes, out),
        TensorType::F16 => DType::F16.extend_f32(bytes, out),
        TensorType::Bf16 => DType::BF16.extend_f32(bytes, out),
        TensorType::Q4_0 => bytes.as_chunks().0.iter().for_each(|block| q4_0(block, out)),
        TensorType::Q4_1 => bytes.as_chunks().0.iter().for_each(|block| q4_1(block, out)),
        TensorType::Q5_0 => bytes.as_chunks().0.iter().for_each(|block| q5_0(block, out)),
        TensorType::Q5_1 => bytes.as_chunks().0.iter().for_each(|block| q5_1(block, out)),
        TensorType::Q8_0 => bytes.as_chunks().0.iter().for_each(|block| q8_0(block, out)),
        TensorType::Q4K => bytes.as_chunks().0.iter().for_each(|block| q4_k(block, out)),
        TensorType::Q5K => bytes.as_chunks().0.iter().for_each(|block| q5_k(block, out)),
        TensorType::Q6K => bytes.as_chunks().0.iter().for_each(|block| q6_k(block, out)),
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The low nibbles of 16 bytes, then the high ones, each with its position in the block.
fn nibbles(packed: &[u8]) -> impl Iterator<Item = (usize, u8)> + '_ {
    packed
        .iter()
        .map(|byte| byte & 0x0F)
        .chain(packed.iter().map(|byte| byte >> 4))
        .enumerate()
}

/// Bit `index` of a block's 32 fifth bits, as the value 16 or 0.
fn fifth_bit(bits: &[u8], index: usize) -> u8 {
    (bits[index / 8] >> (index % 8) & 1) << 4
}

/// scale f16, 16 bytes of two nibbles: (q − 8) · scale.
fn q4_0(block: &[u8; 18], out: &mut Vec<f32>) {
    let scale = half_at(block, 0);
    out.extend(nibbles(&block[2..]).map(|(_, q)| f32::from(q as i8 - 8) * scale));
}

/// scale f16, minimum f16, nibbles: q · scale + minimum.
fn q4_1(block: &[u8; 20], out: &mut Vec<f32>) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    out.extend(nibbles(&block[4..]).map(|(_, q)| f32::from(q) * scale + minimum));
}

/// scale f16, 4 bytes of fifth bits, nibbles: (q − 16) · scale.
fn q5_0(block: &[u8; 22], out: &mut Vec<f32>) {
    let scale = half_at(block, 0);
    out.extend(
        nibbles(&block[6..]).map(|(index, q)| f32::from((q | fifth_bit(&block[2..6], index)) as i8 - 16) * scale),
    );
}

/// scale f16, minimum f16, 4 bytes of fifth bits, nibbles: q · scale + minimum.
fn q5_1(block: &[u8; 24], out: &mut Vec<f32>) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    out.extend(nibbles(&block[8..]).map(|(index, q)| f32::from(q | fifth_bit(&block[4..8], index)) * scale + minimum));
}

/// scale f16, 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut Vec<f32>) {
    let scale = half_at(block, 0);
    out.extend(block[2..].iter().map(|&q| f32::from(q as i8) * scale));
}

/// The 6-bit scale and minimum of one of the eight sub-blocks, packed into 12 bytes.
fn scale_and_minimum(packed: &[u8], sub_block: usize) -> (f32, f32) {
    let (scale, minimum) = if sub_block < 4 {
        (packed[sub_block] & 0x3F, packed[sub_block + 4] & 0x3F)
    } else {
        let low = packed[sub_block + 4];
        (
            (low & 0x0F) | (packed[sub_block - 4] >> 6) << 4,
            (low >> 4) | (packed[sub_block] >> 6) << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

/// scale f16, scale of minima f16, 12 bytes of sub-block scales, 128 bytes of nibbles; 32 low nibbles make one
/// sub-block, the 32 high ones of the same bytes the next: q · (scale · s) − (scale of minima · m).
fn q4_k(block: &[u8; 144], out: &mut Vec<f32>) {
    let (scale, minima) = (half_at(block, 0), half_at(block, 2));
    for sub_block in 0..8 {
        let (s, m) = scale_and_minimum(&block[4..16], sub_block);
        let (s, m) = (scale * s, minima * m);
        let packed = &block[16 + sub_block / 2 * 32..][..32];
        out.extend(
            packed
                .iter()
                .map(|byte| f32::from(byte >> (sub_block % 2 * 4) & 0x0F) * s - m),
        );
    }
}

/// As Q4_K, with 32 bytes of fifth bits between scales and nibbles: bit `sub_block` of byte `i` belongs to element `i`.
fn q5_k(block: &[u8; 176], out: &mut Vec<f32>) {
    let (scale, minima) = (half_at(block, 0), half_at(block, 2));
    let fifth = &block[16..48];
    for sub_block in 0..8 {
        let (s, m) = scale_and_minimum(&block[4..16], sub_block);
        let (s, m) = (scale * s, minima * m);
        let packed = &block[48 + sub_block / 2 * 32..][..32];
        let q = packed
            .iter()
            .zip(fifth)
            .map(|(byte, bits)| (byte >> (sub_block % 2 * 4) & 0x0F) | (bits >> sub_block & 1) << 4);
        out.extend(q.map(|q| f32::from(q) * s - m));
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed sub-block scales, scale f16. Each half of 128
/// elements takes 64 low bytes and 32 high ones, in four groups of 32: (q − 32) · (scale · s).
fn q6_k(block: &[u8; 210], out: &mut Vec<f32>) {
    let scale = half_at(block, 208);
    for half in 0..2 {
        for group in 0..4 {
            let low = &block[half * 64 + group % 2 * 32..][..32];
            let high = &block[128 + half * 32..][..32];
            let scales = &block[192 + half * 8 + group * 2..][..2];
            let value = |(index, (low, high)): (usize, (&u8, &u8))| {
                let q = (low >> (group / 2 * 4) & 0x0F) | (high >> (group * 2) & 3) << 4;
                f32::from(q as i8 - 32) * (scale * f32::from(scales[index / 16] as i8))
            };
            out.extend(low.iter().zip(high).enumerate().map(value));
        }
    }
}
