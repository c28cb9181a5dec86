//! Quantized matrix-vector products for decoding: 4- and 8-bit weights packed in tiles of sixteen rows, activations
//! quantized to 8 bits.
//!
//! Decoding one token reads every weight once, so memory bandwidth bounds it; several tokens share the read. Integer
//! products are summed per block of inputs and scaled into one f32 sum, block after block. An output depends only on its
//! own row of activations: neighbors, thread count and instruction set do not change a bit.
//!
//! What this is not: exact. Activations are quantized to 127 steps of the largest magnitude of their block, and NF4's
//! sixteen levels to 8 bits (which adds 0.2 % to NF4's own error); prefill and training use [`crate::gemm`]. It does not
//! quantize weights either: [`crate::nf4`] does for NF4, and ggml's blocks come from GGUF files.

mod activations;
#[cfg(simd_x86)]
mod avx2;
#[cfg(simd_x86)]
mod avx512;
mod format;
#[cfg(simd_x86)]
mod gemm_operand;
mod stored;
mod weight;

pub use activations::QuantizedActivations;
pub use format::PackedFormat;
#[cfg(simd_x86)]
pub(crate) use gemm_operand::{store_transposed, transposed_floats, transposed_pairs};
pub use weight::PackedWeight;

#[cfg(simd_x86)]
use crate::Isa;
use crate::parallel::{SharedMut, parallel_for, threads};
use weight::MAX_BLOCK;

/// Output rows of a tile.
const ROWS: usize = 16;
/// Inputs that one 32-bit lane multiplies at once.
const QUAD: usize = 4;
/// Rows of activations that share one pass over a tile, at most.
const MAX_ROWS: usize = 8;

/// One product with shared activations, `out [m, rows] = x · Wᵀ`.
#[derive(Debug)]
pub struct PackedProduct<'a> {
    /// The weight.
    pub weight: &'a PackedWeight,
    /// Row-major, overwritten.
    pub out: &'a mut [f32],
}

/// Computes several products with the same activations in one pass over all tiles.
///
/// # Panics
/// If a weight and the activations differ in columns or block length, or an output is too short.
pub fn products(activations: &QuantizedActivations, outputs: &mut [PackedProduct<'_>]) {
    let rows = activations.rows;
    for PackedProduct { weight, out } in &*outputs {
        assert!(
            weight.columns == activations.columns
                && weight.kind.block() == activations.block
                && out.len() >= rows * weight.rows,
            "a product of [{rows}, {}] in blocks of {} with {:?} [{}, {}] does not fit",
            activations.columns,
            activations.block,
            weight.kind,
            weight.rows,
            weight.columns
        );
    }
    if rows == 0 {
        return;
    }
    let weights: Vec<(&PackedWeight, SharedMut<'_>)> = outputs
        .iter_mut()
        .map(|PackedProduct { weight, out }| (*weight, SharedMut::new(out)))
        .collect();
    let tiles: usize = weights.iter().map(|(weight, _)| weight.rows.div_ceil(ROWS)).sum();
    // below this, waking a thread costs more than it saves
    let small = tiles * ROWS * activations.columns * rows < 1 << 15;
    let tasks = if small { 1 } else { (4 * threads()).min(tiles) };
    let share = tiles.div_ceil(tasks.max(1)).max(1);
    parallel_for(tiles.div_ceil(share), |task| {
        let mut first = 0;
        for &(weight, out) in &weights {
            let count = weight.rows.div_ceil(ROWS);
            let (from, to) = (task * share, ((task + 1) * share).min(tiles));
            for tile in from.max(first)..to.min(first + count) {
                product_of_tile(weight, tile - first, activations, out);
            }
            first += count;
        }
    });
}

/// One tile against all rows of activations.
fn product_of_tile(weight: &PackedWeight, tile: usize, activations: &QuantizedActivations, out: SharedMut<'_>) {
    for first in (0..activations.rows).step_by(MAX_ROWS) {
        let count = MAX_ROWS.min(activations.rows - first);
        let job = Job {
            weight,
            tile,
            activations,
            first,
        };
        match count {
            1 => job.store::<1>(count, out),
            2 => job.store::<2>(count, out),
            3 | 4 => job.store::<4>(count, out),
            _ => job.store::<8>(count, out),
        }
    }
}

/// One tile and some rows of activations from `first` on.
#[derive(Clone, Copy)]
struct Job<'a> {
    weight: &'a PackedWeight,
    tile: usize,
    activations: &'a QuantizedActivations,
    first: usize,
}

/// One row of activations.
#[derive(Clone, Copy)]
struct Row<'a> {
    /// `[columns]`
    values: &'a [i8],
    /// `[columns/block]`
    scales: &'a [f32],
    /// `[columns/block]`
    sums: &'a [i32],
}

impl<'a> Job<'a> {
    /// Stores the outputs of `count` of `M` rows; the rows beyond `count` repeat the last one.
    fn store<const M: usize>(&self, count: usize, out: SharedMut<'_>) {
        let mut sums = [[0.0f32; ROWS]; M];
        let rows: [usize; M] = std::array::from_fn(|row| self.first + row.min(count - 1));
        self.sums(rows.map(|row| self.row(row)), &mut sums);
        let width = ROWS.min(self.weight.rows - self.tile * ROWS);
        for (offset, sums) in sums.iter().enumerate().take(count) {
            let block_index = (self.first + offset) * self.weight.rows + self.tile * ROWS;
            // SAFETY: each tile's columns are one task's, and `products` checked the length.
            unsafe { out.slice(block_index, width) }.copy_from_slice(&sums[..width]);
        }
    }

    /// The sums of some rows.
    fn sums<const M: usize>(&self, rows: [Row<'_>; M], sums: &mut [[f32; ROWS]; M]) {
        #[cfg(simd_x86)]
        match Isa::current() {
            Isa::Portable => {}
            // SAFETY: this machine has the level, as detected.
            Isa::Avx2 => return unsafe { avx2::sums(self, rows, sums) },
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
                // SAFETY: as above, and VNNI was detected; every level has AVX2.
                return unsafe {
                    if avx512::is_available() && !self.weight.kind.is_k() {
                        avx512::sums(self, rows, sums);
                    } else {
                        avx2::sums(self, rows, sums);
                    }
                };
            }
        }
        self.portable(rows, sums);
    }

    fn row(&self, row: usize) -> Row<'a> {
        let (columns, blocks) = (self.weight.columns, self.weight.blocks());
        Row {
            values: &self.activations.values[row * columns..][..columns],
            scales: &self.activations.scales[row * blocks..][..blocks],
            sums: &self.activations.sums[row * blocks..][..blocks],
        }
    }

    /// The scalar reference of the vector paths, and the only path on other machines.
    fn portable<const M: usize>(&self, rows: [Row<'_>; M], sums: &mut [[f32; ROWS]; M]) {
        let (blocks, block) = (self.weight.blocks(), self.weight.kind.block());
        *sums = [[0.0; ROWS]; M];
        for at in 0..blocks {
            let block_index = self.tile * blocks + at;
            for lane in 0..ROWS {
                let mut codes = [0i8; MAX_BLOCK];
                for (input, code) in codes[..block].iter_mut().enumerate() {
                    *code = self.weight.code(block_index, lane, input);
                }
                for (row, sums) in rows.iter().zip(&mut *sums) {
                    let values = &row.values[at * block..][..block];
                    let dot = |part: std::ops::Range<usize>| -> i32 {
                        let products = codes[part.clone()].iter().zip(&values[part]);
                        products.map(|(&w, &x)| i32::from(w) * i32::from(x)).sum()
                    };
                    let scale = row.scales[at];
                    if let Some(levels) = self.weight.levels(block_index, lane) {
                        // the lower scales are whole numbers, and what they multiply is too: below 2^24, so exact in f32
                        let [first, second] = levels.scales;
                        let scaled = dot(0..block / 2) * first + dot(block / 2..block) * second;
                        sums[lane] += scaled as f32 * (levels.unit * scale);
                        sums[lane] -= (levels.minimum * row.sums[at]) as f32 * (levels.minimum_unit * scale);
                    } else {
                        sums[lane] += dot(0..block) as f32 * (self.weight.scale(block_index, lane) * scale);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
