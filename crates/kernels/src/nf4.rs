//! 4-bit NormalFloat with double quantization, exactly as bitsandbytes 0.50 computes it.
//!
//! Blocks of 64 run over the flat row-major array, so a block may straddle rows. Each code is the
//! nearest of sixteen levels (a tie goes to the lower); the first element of a pair sits in the high
//! nibble. Source: Dettmers et al. 2023 (QLoRA) and bitsandbytes' `functional.py`.

use std::sync::OnceLock;

/// Elements that share one absmax.
pub const BLOCK: usize = 64;
/// Absmax values that share one second-level scale.
pub const NESTED_BLOCK: usize = 256;

/// The sixteen levels.
pub const CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// A weight `[rows, cols]` in NF4: half a byte an element plus one f32 scale per 64.
#[derive(Debug, Clone)]
pub struct Nf4Matrix {
    rows: usize,
    cols: usize,
    /// Two codes a byte, the first element in the high nibble.
    codes: Vec<u8>,
    /// The scale of each block as it is used, i.e. after double quantization where that is on.
    absmax: Vec<f32>,
}

/// The signed dynamic 8-bit map that the absmax values are quantized with
/// (`create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8)`).
pub fn dynamic_map() -> &'static [f32; 256] {
    static MAP: OnceLock<[f32; 256]> = OnceLock::new();
    MAP.get_or_init(|| {
        let mut values: Vec<f32> = vec![0.0, 1.0];
        for exponent in 0..7 {
            let steps = 1usize << exponent;
            // torch.linspace(0.1, 1, steps + 1) in f32 with fused steps: the second half counts down from the end
            let step = f64::from((1.0f32 - 0.1) / steps as f32);
            let boundary = |i: usize| {
                let exact = if i < steps.div_ceil(2) {
                    f64::from(0.1f32) + step * i as f64
                } else {
                    1.0 - step * (steps - i) as f64
                };
                exact as f32
            };
            let factor = 10f64.powi(exponent - 6) as f32;
            for i in 0..steps {
                // the map holds the midpoints
                let value = factor * ((boundary(i) + boundary(i + 1)) / 2.0);
                values.push(value);
                values.push(-value);
            }
        }
        values.sort_by(f32::total_cmp);
        let mut map = [0.0; 256];
        map.copy_from_slice(&values);
        map
    })
}

/// Index of the entry of the sorted `map` nearest to `x`; a tie goes to the lower.
fn nearest(map: &[f32; 256], x: f32) -> u8 {
    let above = map.partition_point(|&value| value < x);
    if above == 0 {
        return 0;
    }
    if above == 256 {
        return 255;
    }
    if x - map[above - 1] <= map[above] - x {
        (above - 1) as u8
    } else {
        above as u8
    }
}

/// Code of a value already scaled into [-1, 1].
#[inline(always)]
fn encode(x: f32) -> u8 {
    let mut code = 0u8;
    let mut i = 0;
    while i < 15 {
        // the midpoint is exclusive: a tie stays with the lower level
        code += u8::from(x > (CODE[i] + CODE[i + 1]) * 0.5);
        i += 1;
    }
    code
}

impl Nf4Matrix {
    /// Quantizes a row-major `[rows, cols]` matrix.
    ///
    /// # Panics
    /// If `values` does not hold `rows * cols` elements.
    pub fn quantize(values: &[f32], rows: usize, cols: usize, double_quant: bool) -> Self {
        assert_eq!(values.len(), rows * cols, "nf4 operand has the wrong length");
        let blocks = values.len().div_ceil(BLOCK);
        let mut absmax = vec![0.0f32; blocks];
        let mut codes = vec![0u8; values.len().div_ceil(2)];
        for (block, chunk) in values.chunks(BLOCK).enumerate() {
            let largest = chunk.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            absmax[block] = largest;
            let inverse = 1.0 / largest.max(1e-38);
            for (offset, &value) in chunk.iter().enumerate() {
                // a short last block divides instead of multiplying, as bitsandbytes does
                let scaled = if chunk.len() == BLOCK {
                    value * inverse
                } else {
                    value / largest.max(1e-38)
                };
                let code = encode(scaled.clamp(-1.0, 1.0));
                let index = block * BLOCK + offset;
                codes[index / 2] |= if index.is_multiple_of(2) { code << 4 } else { code };
            }
        }
        if double_quant {
            requantize_absmax(&mut absmax);
        }
        Self {
            rows,
            cols,
            codes,
            absmax,
        }
    }

    /// Output features, input features.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// The scales in use, one per 64 elements of the flat array.
    pub fn absmax(&self) -> &[f32] {
        &self.absmax
    }

    /// The packed codes.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.codes.len() + 4 * self.absmax.len()
    }

    /// Dequantizes `out.len()` elements of the flat array from `start` on.
    pub fn decode(&self, start: usize, out: &mut [f32]) {
        decode_dispatch(&self.codes, &self.absmax, start, out);
    }

    /// The whole matrix in f32, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.cols];
        self.decode(0, &mut out);
        out
    }
}

crate::isa::multiversion! {
    fn decode_dispatch(codes: &[u8], absmax: &[f32], start: usize, out: &mut [f32]) = decode_body
}

#[inline(always)]
fn decode_body(codes: &[u8], absmax: &[f32], start: usize, out: &mut [f32]) {
    let mut position = 0;
    while position < out.len() {
        let index = start + position;
        let scale = absmax[index / BLOCK];
        let run = (BLOCK - index % BLOCK).min(out.len() - position);
        let target = &mut out[position..position + run];
        if index.is_multiple_of(2) && run.is_multiple_of(2) {
            let bytes = &codes[index / 2..index / 2 + run / 2];
            for (pair, &byte) in target.chunks_exact_mut(2).zip(bytes) {
                pair[0] = CODE[usize::from(byte >> 4)] * scale;
                pair[1] = CODE[usize::from(byte & 15)] * scale;
            }
        } else {
            for (offset, value) in target.iter_mut().enumerate() {
                let byte = codes[(index + offset) / 2];
                let code = if (index + offset).is_multiple_of(2) {
                    byte >> 4
                } else {
                    byte & 15
                };
                *value = CODE[usize::from(code)] * scale;
            }
        }
        position += run;
    }
}

/// Replaces each absmax by its 8-bit double-quantized value (blocks of 256 around the mean).
fn requantize_absmax(absmax: &mut [f32]) {
    if absmax.is_empty() {
        return;
    }
    let map = dynamic_map();
    let offset = (absmax.iter().map(|&v| f64::from(v)).sum::<f64>() / absmax.len() as f64) as f32;
    for chunk in absmax.chunks_mut(NESTED_BLOCK) {
        let largest = chunk.iter().fold(0.0f32, |m, v| m.max((v - offset).abs()));
        let inverse = 1.0 / largest.max(1e-38);
        for value in chunk {
            let code = nearest(map, ((*value - offset) * inverse).clamp(-1.0, 1.0));
            *value = map[usize::from(code)] * largest + offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn dynamic_map_is_bitsandbytes() {
        let map = dynamic_map();
        assert_eq!(map[127], 0.0);
        assert_eq!(map[255], 1.0);
        assert!((map[0] + 0.992_968_74).abs() < 1e-7, "{}", map[0]);
        assert!(map.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn midpoints_are_those_of_the_cuda_kernel() {
        let expected = [
            0.039_790_15f32,
            0.120_255_25,
            0.203_521_25,
            0.292_013_77,
            0.389_312_54,
            0.501_663_4,
            0.642_786_9,
            0.861_478_4,
        ];
        for (i, value) in expected.into_iter().enumerate() {
            let midpoint = (CODE[7 + i] + CODE[8 + i]) * 0.5;
            // the CUDA source rounds these decimals by itself: one unit in the last place apart at most
            assert!((midpoint - value).abs() <= 6e-8, "midpoint {i}: {midpoint} and {value}");
        }
    }

    #[test]
    fn decoding_any_range_equals_decoding_the_whole() {
        let stream = Stream::new(&[7]);
        let values: Vec<f32> = (0..5 * 77).map(|i| stream.normal(i)).collect();
        let matrix = Nf4Matrix::quantize(&values, 5, 77, true);
        let whole = matrix.dequantize();
        for start in [0, 1, 63, 64, 65, 130] {
            for len in [0, 1, 2, 63, 64, 100] {
                let mut part = vec![0.0; len];
                matrix.decode(start, &mut part);
                assert_eq!(part, whole[start..start + len]);
            }
        }
    }

    #[test]
    fn zero_block_stays_zero_without_nesting() {
        let matrix = Nf4Matrix::quantize(&[0.0; 64], 1, 64, false);
        assert!(matrix.dequantize().iter().all(|&v| v == 0.0));
    }
}
