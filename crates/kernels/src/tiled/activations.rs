//! Rows of activations in 8 bits.

use super::Kind;

/// Rows of activations in 8 bits, in blocks of the weights that they will be multiplied with.
#[derive(Debug, Clone, Default)]
pub struct Activations {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Inputs that share a scale.
    pub(super) block: usize,
    /// `[rows, columns]`, −127 … 127.
    pub(super) values: Vec<i8>,
    /// `[rows, columns/block]`
    pub(super) scales: Vec<f32>,
    /// The sum of a block's values, `[rows, columns/block]`: what codes stored above what they stand for add to a product.
    pub(super) sums: Vec<i32>,
}

impl Activations {
    /// Rounds rows of activations `[rows, columns]`, 127 steps of the largest of a block, for weights of this kind.
    ///
    /// # Panics
    /// If the columns are no whole number of blocks, or `x` holds no whole rows.
    pub fn quantize(&mut self, kind: Kind, x: &[f32], columns: usize) {
        let block = kind.block();
        assert!(
            columns > 0 && columns.is_multiple_of(block) && x.len().is_multiple_of(columns),
            "activations of {} elements are no rows of {columns}, a multiple of {block}",
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

/// Rounds one block; gives the step. A block of zeros, or one that is not finite, keeps its scale's meaning:
/// zeros stay zeros, and what is not finite stays so in the product.
#[inline(always)]
fn round_block<const BLOCK: usize>(x: &[f32; BLOCK], values: &mut [i8; BLOCK]) -> f32 {
    // in lanes, so that it becomes vectors: neither order nor NaN matters to a largest magnitude in whole numbers
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
