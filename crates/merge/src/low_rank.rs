//! The dense change an adapter makes: δ = scale · (B·A), in f32, entry for entry the same on every machine.
//!
//! Each entry is one chain of fused multiply-adds over the rank, k ascending from 0, then one multiplication by the
//! scale. No entry's chain is ever split, so neither tiling, threads nor vector width can change a bit.

use pulp::{Arch, Simd, WithSimd};

/// Vectors of one packed panel of A.
const VECTORS: usize = 2;
/// Rows of B that share a pass over a panel; 6 × 2 vectors of sums stay in registers.
const ROWS: usize = 6;

/// A product whose rows can be computed in any order.
#[derive(Debug)]
pub(crate) struct LowRankProduct {
    /// B, [rows, rank] row-major.
    b: Vec<f32>,
    /// A in panels.
    panels: Vec<f32>,
    rank: usize,
    columns: usize,
    scale: f32,
}

impl LowRankProduct {
    /// Packs the factors. A, [rank, columns] row-major, is rearranged once.
    pub(crate) fn new(a: &[f32], b: Vec<f32>, rank: usize, columns: usize, scale: f32) -> Self {
        let width = Arch::new().dispatch(PanelWidth);
        Self {
            panels: if columns == 0 {
                Vec::new()
            } else {
                pack(a, rank, columns, width)
            },
            b,
            rank,
            columns,
            scale,
        }
    }

    /// Writes some rows of δ = scale · (B·A), row-major, into `out`, whose length fixes their number.
    pub(crate) fn rows(&self, start: usize, out: &mut [f32]) {
        if self.columns > 0 {
            Arch::new().dispatch(Block {
                product: self,
                b: &self.b[start * self.rank..],
                out,
            });
        }
    }
}

/// Columns of a panel on the machine at hand.
struct PanelWidth;

impl WithSimd for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        VECTORS * S::F32_LANES
    }
}

/// A cut into panels of some columns, each [rank, width] and contiguous, the last padded with zeros.
fn pack(a: &[f32], rank: usize, columns: usize, width: usize) -> Vec<f32> {
    let mut panels = vec![0.0; columns.div_ceil(width) * rank * width];
    for (index, panel) in panels.chunks_exact_mut(rank * width).enumerate() {
        let start = index * width;
        let used = width.min(columns - start);
        for (row, packed) in a.chunks_exact(columns).zip(panel.chunks_exact_mut(width)) {
            packed[..used].copy_from_slice(&row[start..start + used]);
        }
    }
    panels
}

/// One block of rows against every panel.
struct Block<'a> {
    product: &'a LowRankProduct,
    /// B from the block's first row on.
    b: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let LowRankProduct {
            rank, columns, scale, ..
        } = *self.product;
        let width = VECTORS * S::F32_LANES;
        let scale = simd.splat_f32s(scale);
        for (index, panel) in self.product.panels.chunks_exact(rank * width).enumerate() {
            let panel = S::as_simd_f32s(panel).0;
            let start = index * width;
            let used = width.min(columns - start);
            for (group, out) in self.out.chunks_mut(ROWS * columns).enumerate() {
                let b = &self.b[group * ROWS * rank..];
                if out.len() == ROWS * columns {
                    let sums = tile::<S, ROWS>(simd, b, panel, rank);
                    for (row, sums) in sums.iter().enumerate() {
                        store(simd, *sums, scale, &mut out[row * columns + start..][..used]);
                    }
                } else {
                    for row in 0..out.len() / columns {
                        let [sums] = tile::<S, 1>(simd, &b[row * rank..], panel, rank);
                        store(simd, sums, scale, &mut out[row * columns + start..][..used]);
                    }
                }
            }
        }
    }
}

/// Writes sums times the scale to at most a panel's width of entries.
#[inline(always)]
fn store<S: Simd>(simd: S, sums: [S::f32s; VECTORS], scale: S::f32s, out: &mut [f32]) {
    // Written out: in a closure, vectors would be passed to and fro by calls.
    let products = [simd.mul_f32s(sums[0], scale), simd.mul_f32s(sums[1], scale)];
    // A partial store is a call, and only a last panel needs it.
    if let (whole @ [_, _], []) = S::as_mut_simd_f32s(out) {
        whole.copy_from_slice(&products);
        return;
    }
    let (left, right) = out.split_at_mut(out.len().min(S::F32_LANES));
    simd.partial_store_f32s(left, products[0]);
    simd.partial_store_f32s(right, products[1]);
}

/// `R` rows of B times one panel: each sum is Σₖ b[row, k]·a[k, column], k ascending, fused.
#[inline(always)]
fn tile<S: Simd, const R: usize>(simd: S, b: &[f32], panel: &[S::f32s], rank: usize) -> [[S::f32s; VECTORS]; R] {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    let b = &b[..R * rank];
    for (k, a) in panel.chunks_exact(VECTORS).enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            let b = simd.splat_f32s(b[row * rank + k]);
            sums[0] = simd.mul_add_f32s(b, a[0], sums[0]);
            sums[1] = simd.mul_add_f32s(b, a[1], sums[1]);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_product_by_hand() {
        // B = [[1, 2], [3, 4], [5, 6]], A = [[1, 0, 2], [0, 1, 3]], scale 2.
        let product = LowRankProduct::new(
            &[1.0, 0.0, 2.0, 0.0, 1.0, 3.0],
            vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            2,
            3,
            2.0,
        );
        let mut out = [0.0; 9];
        product.rows(0, &mut out);
        assert_eq!(out, [2.0, 4.0, 16.0, 6.0, 8.0, 36.0, 10.0, 12.0, 56.0]);
        product.rows(1, &mut out[..3]);
        assert_eq!(out[..3], [6.0, 8.0, 36.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Every entry is exactly the scalar chain, whatever tile, block or dispatch computed it.
        #[test]
        fn equals_the_scalar_chain(rows in 1_usize..120, columns in 1_usize..70, rank in 1_usize..20, seed: u64) {
            let mut state = seed | 1;
            let mut draw = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / 8_388_608.0 - 1.0
            };
            let a: Vec<f32> = (0..rank * columns).map(|_| draw()).collect();
            let b: Vec<f32> = (0..rows * rank).map(|_| draw()).collect();
            let scale = draw();
            let mut out = vec![f32::NAN; rows * columns];
            LowRankProduct::new(&a, b.clone(), rank, columns, scale).rows(0, &mut out);
            for row in 0..rows {
                for column in 0..columns {
                    let chain = (0..rank).fold(0.0_f32, |sum, k| b[row * rank + k].mul_add(a[k * columns + column], sum));
                    prop_assert_eq!(out[row * columns + column].to_bits(), (chain * scale).to_bits());
                }
            }
        }
    }
}
