//! Activations quantized to 8 bits.

use super::PackedFormat;

/// Rows of activations quantized to 8 bits, in blocks of the same length as the weights'.
#[derive(Debug, Clone, Default)]
pub struct QuantizedActivations {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Inputs that share a scale.
    pub(super) block: usize,
    /// `[rows, columns]`, −127 … 127.
    pub(super) values: Vec<i8>,
    /// `[rows, columns/block]`
    pub(super) scales: Vec<f32>,
    /// The sum of each block's values, `[rows, columns/block]`: corrects products for the offset of stored codes.
    pub(super) sums: Vec<i32>,
}

impl QuantizedActivations {
    /// Quantizes rows of activations `[rows, columns]` to 127 steps of each block's largest magnitude, for weights of
    /// this format.
    ///
    /// # Panics
    /// If the columns are not a whole number of blocks, or `x` does not hold whole rows.
    pub fn quantize(&mut self, kind: PackedFormat, x: &[f32], columns: usize) {
        let block = kind.block();
        assert!(
            columns > 0 && columns.is_multiple_of(block) && x.len().is_multiple_of(columns),
            "activations of {} elements do not divide into rows of {columns}, which must be a multiple of {block}",
            x.len()
        );
        (self.rows, self.columns, self.block) = (x.len() / columns, columns, block);
        self.values.resize(x.len(), 0);
        self.scales.resize(x.len() / block, 0.0);
        self.sums.resize(x.len() / block, 0);
        let results = (&mut *self.scales, &mut *self.sums);
        if block == 32 {
            round_short(x, &mut self.values, results);
        } else {
            round_long(x, &mut self.values, results);
        }
    }
}

crate::isa::multiversion! {
    fn round_short(x: &[f32], values: &mut [i8], results: (&mut [f32], &mut [i32])) = round_body_short
}

crate::isa::multiversion! {
    fn round_long(x: &[f32], values: &mut [i8], results: (&mut [f32], &mut [i32])) = round_body_long
}

#[inline(always)]
fn round_body_short(x: &[f32], values: &mut [i8], results: (&mut [f32], &mut [i32])) {
    round_blocks::<32>(x, values, results);
}

#[inline(always)]
fn round_body_long(x: &[f32], values: &mut [i8], results: (&mut [f32], &mut [i32])) {
    round_blocks::<64>(x, values, results);
}

#[inline(always)]
fn round_blocks<const BLOCK: usize>(x: &[f32], values: &mut [i8], (scales, sums): (&mut [f32], &mut [i32])) {
    let (x, values) = (x.as_chunks::<BLOCK>().0, values.as_chunks_mut::<BLOCK>().0);
    for (((x, values), scale), sum) in x.iter().zip(values).zip(scales).zip(sums) {
        *scale = round_block(x, values);
        *sum = values.iter().map(|&value| i32::from(value)).sum();
    }
}

/// Added to a value below 2^22 this leaves its nearest whole number (ties to even) in the lowest bits.
const WHOLE: f32 = 12_582_912.0;

/// Quantizes one block and returns its scale. Zeros stay zeros, and a block that is not finite gives products that are
/// not finite.
#[inline(always)]
fn round_block<const BLOCK: usize>(x: &[f32; BLOCK], values: &mut [i8; BLOCK]) -> f32 {
    // in lanes, so that it vectorizes: as integers, magnitudes have a maximum whatever the order and NaN
    let mut lanes = [0u32; 16];
    for part in x.as_chunks::<16>().0 {
        for (lane, value) in lanes.iter_mut().zip(part) {
            *lane = (*lane).max(value.to_bits() & !(1 << 31));
        }
    }
    let largest = f32::from_bits(lanes.into_iter().fold(0, u32::max));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for (target, value) in values.iter_mut().zip(x) {
        *target = (value * inverse + WHOLE).to_bits() as i8;
    }
    if largest.is_finite() { largest / 127.0 } else { f32::NAN }
}
