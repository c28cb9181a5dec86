//! Products for generated tokens: 4- and 8-bit weights in tiles of sixteen rows, activations in 8 bits.
//!
//! One token reads every weight once, so bytes bound it; several tokens share the read. Whole numbers are summed
//! per block of 64 inputs and scaled into one f32 sum, block after block: an output depends on its own row of
//! activations alone, not on its neighbours, the number of threads or the instruction set, to the bit.
//!
//! What this is not: exact. A weight's sixteen levels are rounded to 8 bits (for NF4 that adds 0.2 % to the error
//! it has anyway) and activations to 127 steps of their block's largest; prompts and training use [`crate::gemm`].

#[cfg(simd_x86)]
mod avx2;
#[cfg(simd_x86)]
mod avx512;

#[cfg(simd_x86)]
use crate::Isa;
use crate::{
    Matrix, Nf4Matrix,
    nf4::CODE,
    parallel::{SharedMut, parallel_for, threads},
};

/// Inputs that share one scale, of a weight's row and of an activation's.
pub const BLOCK: usize = 64;
/// Output rows of a tile.
const ROWS: usize = 16;
/// Inputs that one 32-bit lane multiplies at once.
const QUAD: usize = 4;
/// Rows of activations that share one pass over a tile.
const MOST: usize = 8;

/// How a tile's codes are stored.
#[derive(Debug, Clone)]
enum Codes {
    /// Two a byte: `[rows/16][columns/64][8][16 rows][4]`, byte `v, r, j` holds inputs `8v + j` (low) and
    /// `8v + 4 + j` (high). The table says what they stand for, plus 128.
    Four { bytes: Vec<u8>, table: [u8; 16] },
    /// `[rows/16][columns/64][16][16 rows][4]`, plus 128.
    Eight { bytes: Vec<u8> },
}

/// A weight `[rows, columns]` in tiles.
#[derive(Debug, Clone)]
pub struct Tiled {
    rows: usize,
    columns: usize,
    codes: Codes,
    /// `[rows/16][columns/64][16]`
    scales: Vec<f32>,
}

/// Rows of activations in 8 bits.
#[derive(Debug, Clone, Default)]
pub struct Activations {
    rows: usize,
    columns: usize,
    /// `[rows, columns]`, −127 … 127.
    values: Vec<i8>,
    /// `[rows, columns/64]`
    scales: Vec<f32>,
    /// 128 times the sum of a block's values, `[rows, columns/64]`: what codes stored plus 128 add to a product.
    excess: Vec<i32>,
}

/// One block of one row of activations.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    values: &'a [i8],
    scale: f32,
    #[cfg_attr(
        not(simd_x86),
        expect(dead_code, reason = "the portable path reads codes with their sign")
    )]
    excess: i32,
}

/// One product with shared activations, `out [m, rows] = x · Wᵀ`.
#[derive(Debug)]
pub struct Output<'a> {
    /// The weight.
    pub weight: &'a Tiled,
    /// Row-major, overwritten.
    pub out: &'a mut [f32],
}

impl Tiled {
    /// Whether a weight of so many inputs can be tiled.
    pub fn fits(columns: usize) -> bool {
        columns > 0 && columns.is_multiple_of(BLOCK)
    }

    /// The same weight in tiles, its sixteen levels rounded to 8 bits.
    ///
    /// # Panics
    /// If the inputs are no multiple of 64 ([`Tiled::fits`]).
    pub fn from_nf4(weight: &Nf4Matrix) -> Self {
        let (rows, columns) = weight.shape();
        let table = CODE.map(|level| (128 + (level * 127.0).round_ties_even() as i32) as u8);
        let mut tiled = Self::empty(rows, columns, |blocks| Codes::Four {
            // what no row fills stands for zero
            bytes: vec![0x77; blocks * ROWS * BLOCK / 2],
            table,
        });
        let Codes::Four { bytes, .. } = &mut tiled.codes else {
            unreachable!("made so above")
        };
        for row in 0..rows {
            for block in 0..columns / BLOCK {
                let flat = row * columns + block * BLOCK;
                let place = tile_block(row, block, columns);
                tiled.scales[place * ROWS + row % ROWS] = weight.absmax()[flat / BLOCK] / 127.0;
                let codes = &weight.codes()[flat / 2..(flat + BLOCK) / 2];
                let target = &mut bytes[place * ROWS * BLOCK / 2..];
                for (group, codes) in codes.chunks_exact(QUAD).enumerate() {
                    // eight inputs: bytes 0 and 1 hold the four of the low nibbles, 2 and 3 those of the high ones
                    let input = |j: usize| {
                        if j.is_multiple_of(2) {
                            codes[j / 2] >> 4
                        } else {
                            codes[j / 2] & 15
                        }
                    };
                    for j in 0..QUAD {
                        target[(group * ROWS + row % ROWS) * QUAD + j] = input(j) | input(j + QUAD) << 4;
                    }
                }
            }
        }
        tiled
    }

    /// Rounds a row-major matrix `[rows, columns]` to 8 bits, 127 steps of the largest of 64.
    ///
    /// # Panics
    /// If the inputs are no multiple of 64 ([`Tiled::fits`]), or the matrix is too short.
    pub fn quantize8(weight: Matrix<'_>, rows: usize, columns: usize) -> Self {
        let mut tiled = Self::empty(rows, columns, |blocks| Codes::Eight {
            bytes: vec![128; blocks * ROWS * BLOCK],
        });
        let Codes::Eight { bytes } = &mut tiled.codes else {
            unreachable!("made so above")
        };
        let (scales, bytes) = (SharedMut::new(&mut tiled.scales), SharedMut::new(bytes));
        let per_tile = columns / BLOCK;
        parallel_for(rows.div_ceil(ROWS), |tile| {
            // SAFETY: each tile is one task's.
            let (scales, bytes) = unsafe {
                (
                    scales.slice(tile * per_tile * ROWS, per_tile * ROWS),
                    bytes.slice(tile * per_tile * ROWS * BLOCK, per_tile * ROWS * BLOCK),
                )
            };
            let mut values = vec![0.0; columns];
            let mut rounded = [0; BLOCK];
            for row in tile * ROWS..(tile * ROWS + ROWS).min(rows) {
                weight.widen(row * columns, &mut values);
                for (block, values) in values.chunks_exact(BLOCK).enumerate() {
                    scales[block * ROWS + row % ROWS] = round_block(values, &mut rounded);
                    for (group, quad) in rounded.chunks_exact(QUAD).enumerate() {
                        let start = ((block * ROWS + group) * ROWS + row % ROWS) * QUAD;
                        for (target, &value) in bytes[start..start + QUAD].iter_mut().zip(quad) {
                            *target = (128 + i32::from(value)) as u8;
                        }
                    }
                }
            }
        });
        tiled
    }

    fn empty(rows: usize, columns: usize, codes: impl FnOnce(usize) -> Codes) -> Self {
        assert!(
            Self::fits(columns),
            "{columns} inputs are no multiple of {BLOCK}: the weight cannot be tiled"
        );
        let blocks = rows.div_ceil(ROWS) * (columns / BLOCK);
        Self {
            rows,
            columns,
            codes: codes(blocks),
            scales: vec![0.0; blocks * ROWS],
        }
    }

    /// Output and input features.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let (Codes::Four { bytes, .. } | Codes::Eight { bytes }) = &self.codes;
        bytes.len() + 4 * self.scales.len()
    }

    /// The codes of one block of a tile, −127 … 127.
    fn decode(&self, place: usize, codes: &mut [[i8; BLOCK]; ROWS]) {
        let signed = |code: u8| (code ^ 128).cast_signed();
        match &self.codes {
            Codes::Four { bytes, table } => {
                let bytes = &bytes[place * ROWS * BLOCK / 2..(place + 1) * ROWS * BLOCK / 2];
                for (at, &byte) in bytes.iter().enumerate() {
                    let (group, row, j) = (at / (ROWS * QUAD), at / QUAD % ROWS, at % QUAD);
                    codes[row][2 * QUAD * group + j] = signed(table[usize::from(byte & 15)]);
                    codes[row][2 * QUAD * group + QUAD + j] = signed(table[usize::from(byte >> 4)]);
                }
            }
            Codes::Eight { bytes } => {
                let bytes = &bytes[place * ROWS * BLOCK..(place + 1) * ROWS * BLOCK];
                for (at, &byte) in bytes.iter().enumerate() {
                    codes[at / QUAD % ROWS][at / (ROWS * QUAD) * QUAD + at % QUAD] = signed(byte);
                }
            }
        }
    }

    /// The matrix as products see it, row-major f32.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        let mut codes = [[0i8; BLOCK]; ROWS];
        let blocks = self.columns / BLOCK;
        for (row, out) in out.chunks_exact_mut(self.columns).enumerate() {
            for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
                let place = row / ROWS * blocks + block;
                self.decode(place, &mut codes);
                let scale = self.scales[place * ROWS + row % ROWS];
                for (target, &code) in out.iter_mut().zip(&codes[row % ROWS]) {
                    *target = f32::from(code) * scale;
                }
            }
        }
        out
    }
}

/// Which block of a tiled weight holds a row's block of inputs.
fn tile_block(row: usize, block: usize, columns: usize) -> usize {
    row / ROWS * (columns / BLOCK) + block
}

impl Activations {
    /// Rounds rows of activations `[rows, columns]`, 127 steps of the largest of 64.
    ///
    /// # Panics
    /// If the columns are no multiple of 64, or `x` holds no whole rows.
    pub fn quantize(&mut self, x: &[f32], columns: usize) {
        assert!(
            Tiled::fits(columns) && x.len().is_multiple_of(columns),
            "activations of {} elements are no rows of {columns}, a multiple of {BLOCK}",
            x.len()
        );
        (self.rows, self.columns) = (x.len() / columns, columns);
        self.values.resize(x.len(), 0);
        self.scales.resize(x.len() / BLOCK, 0.0);
        self.excess.resize(x.len() / BLOCK, 0);
        round_blocks(x, &mut self.values, &mut self.scales);
        for (excess, values) in self.excess.iter_mut().zip(self.values.chunks_exact(BLOCK)) {
            *excess = 128 * values.iter().map(|&value| i32::from(value)).sum::<i32>();
        }
    }

    fn block(&self, row: usize, block: usize) -> Inputs<'_> {
        let at = row * (self.columns / BLOCK) + block;
        Inputs {
            values: &self.values[at * BLOCK..(at + 1) * BLOCK],
            scale: self.scales[at],
            excess: self.excess[at],
        }
    }
}

crate::isa::multiversion! {
    fn round_blocks(x: &[f32], values: &mut [i8], scales: &mut [f32]) = round_blocks_body
}

#[inline(always)]
fn round_blocks_body(x: &[f32], values: &mut [i8], scales: &mut [f32]) {
    let (x, values) = (x.as_chunks::<BLOCK>().0, values.as_chunks_mut::<BLOCK>().0);
    for ((x, values), scale) in x.iter().zip(values).zip(scales) {
        *scale = round_block(x, values);
    }
}

/// Rounds one block; gives the step. A block of zeros, or one that is not finite, keeps its scale's meaning:
/// zeros stay zeros, and what is not finite stays so in the product.
#[inline(always)]
fn round_block(x: &[f32], values: &mut [i8; BLOCK]) -> f32 {
    let largest = x.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    for (target, value) in values.iter_mut().zip(x) {
        *target = (value * inverse).round_ties_even() as i8;
    }
    if x.iter().all(|value| value.is_finite()) {
        largest / 127.0
    } else {
        f32::NAN
    }
}

/// Computes several products with the same activations in one pass over all tiles.
///
/// # Panics
/// If a weight's inputs are not the activations', or an output is too short.
pub fn products(activations: &Activations, outputs: &mut [Output<'_>]) {
    let rows = activations.rows;
    for Output { weight, out } in &*outputs {
        assert!(
            weight.columns == activations.columns && out.len() >= rows * weight.rows,
            "a product of [{rows}, {}] with [{}, {}] does not fit",
            activations.columns,
            weight.rows,
            weight.columns
        );
    }
    if rows == 0 {
        return;
    }
    let weights: Vec<(&Tiled, SharedMut<'_>)> = outputs
        .iter_mut()
        .map(|Output { weight, out }| (*weight, SharedMut::new(out)))
        .collect();
    let tiles: usize = weights.iter().map(|(weight, _)| weight.rows.div_ceil(ROWS)).sum();
    // below this a wake-up costs more than the other thread saves
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
fn product_of_tile(weight: &Tiled, tile: usize, activations: &Activations, out: SharedMut<'_>) {
    let mut sums = [[0.0f32; ROWS]; MOST];
    for first in (0..activations.rows).step_by(MOST) {
        let count = MOST.min(activations.rows - first);
        let job = Job {
            weight,
            tile,
            activations,
            first,
        };
        match count {
            1 => job.sums::<1>(count, &mut sums),
            2 => job.sums::<2>(count, &mut sums),
            3 | 4 => job.sums::<4>(count, &mut sums),
            _ => job.sums::<8>(count, &mut sums),
        }
        let width = ROWS.min(weight.rows - tile * ROWS);
        for (offset, sums) in sums.iter().enumerate().take(count) {
            // SAFETY: each tile's columns are one task's, and `products` checked the length.
            let target = unsafe { out.slice((first + offset) * weight.rows + tile * ROWS, width) };
            target.copy_from_slice(&sums[..width]);
        }
    }
}

/// One tile and some rows of activations from `first` on.
#[derive(Clone, Copy)]
struct Job<'a> {
    weight: &'a Tiled,
    tile: usize,
    activations: &'a Activations,
    first: usize,
}

impl Job<'_> {
    /// The sums of `M` rows, of which those beyond `count` repeat the last there is.
    fn sums<const M: usize>(&self, count: usize, sums: &mut [[f32; ROWS]; MOST]) {
        let rows: [usize; M] = std::array::from_fn(|row| self.first + row.min(count - 1));
        let sums = sums
            .first_chunk_mut::<M>()
            .unwrap_or_else(|| unreachable!("M is at most MOST"));
        #[cfg(simd_x86)]
        match Isa::current() {
            Isa::Portable => {}
            // SAFETY: the level is one that this machine was seen to have.
            Isa::Avx2 => return unsafe { avx2::sums(self, rows, sums) },
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => {
                // SAFETY: as above, and the product's own feature was asked for.
                return unsafe {
                    if avx512::is_available() {
                        avx512::sums(self, rows, sums);
                    } else {
                        avx2::sums(self, rows, sums);
                    }
                };
            }
        }
        self.portable(rows, sums);
    }

    /// The twin of the vector paths, and the only one elsewhere.
    fn portable<const M: usize>(&self, rows: [usize; M], sums: &mut [[f32; ROWS]; M]) {
        let mut codes = [[0i8; BLOCK]; ROWS];
        *sums = [[0.0; ROWS]; M];
        for block in 0..self.blocks() {
            let place = self.tile * self.blocks() + block;
            self.weight.decode(place, &mut codes);
            let weights = &self.weight.scales[place * ROWS..(place + 1) * ROWS];
            for (&row, sums) in rows.iter().zip(&mut *sums) {
                let Inputs { values, scale, .. } = self.activations.block(row, block);
                for ((codes, &weight), sum) in codes.iter().zip(weights).zip(sums) {
                    let products = codes.iter().zip(values).map(|(&w, &x)| i32::from(w) * i32::from(x));
                    *sum += products.sum::<i32>() as f32 * (weight * scale);
                }
            }
        }
    }

    /// Blocks of inputs.
    fn blocks(&self) -> usize {
        self.weight.columns / BLOCK
    }
}

#[cfg(test)]
mod tests;
