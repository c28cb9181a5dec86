//! Weights packed in tiles of sixteen rows: the memory layout of their codes, and the values they encode.

use half::f16;

use super::{QUAD, ROWS};
use crate::{
    Nf4Matrix,
    nf4::CODE,
    parallel::{SharedMut, parallel_for},
};

/// The longest block of any format.
pub(super) const MAX_BLOCK: usize = 64;

/// What codes encode, and how many inputs of a row share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackedFormat {
    /// 4-bit NormalFloat, its sixteen levels rounded to 8 bits; f32 scales of 64 inputs.
    Nf4,
    /// ggml's Q4_0: a code from −8 to 7; f16 scales of 32 inputs.
    Q4_0,
    /// ggml's Q8_0: a code from −128 to 127; f16 scales of 32 inputs.
    Q8_0,
}

impl PackedFormat {
    /// Inputs that share a scale.
    pub const fn block(self) -> usize {
        match self {
            Self::Nf4 => 64,
            Self::Q4_0 | Self::Q8_0 => 32,
        }
    }

    /// The offset of a stored code above the value it encodes.
    pub(super) const fn offset(self) -> i32 {
        match self {
            Self::Nf4 | Self::Q8_0 => 128,
            Self::Q4_0 => 8,
        }
    }

    /// Lines per block of a tile.
    pub(super) const fn lines(self) -> usize {
        match self {
            Self::Nf4 | Self::Q4_0 => self.block() / (2 * QUAD),
            Self::Q8_0 => self.block() / QUAD,
        }
    }

    /// A byte whose codes encode zero.
    const fn zero(self) -> u8 {
        match self {
            Self::Nf4 => 0x77,
            Self::Q4_0 => 0x88,
            Self::Q8_0 => 0x80,
        }
    }

    /// Bytes of a block as ggml stores it: the scale, then the codes.
    const fn stored_bytes(self) -> usize {
        match self {
            Self::Nf4 | Self::Q4_0 => 2 + self.block() / 2,
            Self::Q8_0 => 2 + self.block(),
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

/// Four codes, or four pairs of two, of each of sixteen rows; one load of a vector.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u8; ROWS * QUAD]);

/// `[rows/16][columns/block][16]`
#[derive(Debug, Clone)]
pub(super) enum Scales {
    Floats(Vec<f32>),
    Halves(Vec<f16>),
}

/// A weight `[rows, columns]`, packed in tiles of sixteen rows.
///
/// Codes of 4 bits are `[rows/16][columns/block][block/8]` lines: byte `r, j` of line `v` holds the inputs `8v + j`
/// (low) and `8v + 4 + j` (high) of row `r`. Those of 8 bits are `[rows/16][columns/block][block/4]` lines: byte
/// `r, j` of line `v` is the input `4v + j`, plus 128.
#[derive(Debug, Clone)]
pub struct PackedWeight {
    pub(super) kind: PackedFormat,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) codes: Vec<Line>,
    pub(super) scales: Scales,
}

impl PackedWeight {
    /// Whether a weight with `columns` inputs can be packed.
    pub fn fits(kind: PackedFormat, columns: usize) -> bool {
        columns > 0 && columns.is_multiple_of(kind.block())
    }

    /// A weight of zeros, to be filled by [`PackedWeight::store_rows`].
    ///
    /// # Panics
    /// If the inputs are not a whole number of blocks ([`PackedWeight::fits`]).
    pub fn zeros(kind: PackedFormat, rows: usize, columns: usize) -> Self {
        assert!(
            Self::fits(kind, columns),
            "{columns} inputs are not a multiple of {}, so the weight cannot be packed",
            kind.block()
        );
        let blocks = rows.div_ceil(ROWS) * (columns / kind.block());
        Self {
            kind,
            rows,
            columns,
            codes: vec![Line([kind.zero(); ROWS * QUAD]); blocks * kind.lines()],
            scales: match kind {
                PackedFormat::Nf4 => Scales::Floats(vec![0.0; blocks * ROWS]),
                PackedFormat::Q4_0 | PackedFormat::Q8_0 => Scales::Halves(vec![f16::ZERO; blocks * ROWS]),
            },
        }
    }

    /// Packs an NF4 weight; its sixteen levels are rounded to 8 bits.
    ///
    /// # Panics
    /// If the inputs are not a multiple of 64 ([`PackedWeight::fits`]).
    pub fn from_nf4(weight: &Nf4Matrix) -> Self {
        let (rows, columns) = weight.shape();
        let mut packed = Self::zeros(PackedFormat::Nf4, rows, columns);
        let block_bytes = PackedFormat::Nf4.block() / 2;
        for (at, codes) in weight.codes().chunks_exact(block_bytes).enumerate() {
            let (row, block) = (at * MAX_BLOCK / columns, at * MAX_BLOCK % columns / MAX_BLOCK);
            let block_index = packed.block_index(row, block);
            if let Scales::Floats(scales) = &mut packed.scales {
                scales[block_index * ROWS + row % ROWS] = weight.absmax()[at] / 127.0;
            }
            let code = |input: usize| codes[input / 2] >> (4 * (1 - input % 2)) & 15;
            let lines = &mut packed.codes[block_index * PackedFormat::Nf4.lines()..][..PackedFormat::Nf4.lines()];
            pack_nibbles(lines, row % ROWS, code);
        }
        packed
    }

    /// Fills whole rows, beginning with row `first`, with blocks in ggml's layout; codes and scales are not changed.
    ///
    /// # Panics
    /// If `stored` does not hold whole rows of this format, holds too many, or the format is not ggml's.
    pub fn store_rows(&mut self, first: usize, stored: &[u8]) {
        let (kind, block_bytes) = (self.kind, self.kind.stored_bytes());
        let row_bytes = self.columns / kind.block() * block_bytes;
        let last = first + stored.len() / row_bytes;
        assert!(
            stored.len().is_multiple_of(row_bytes) && last <= self.rows,
            "{} bytes from row {first} on are not whole rows of a {kind:?} weight [{}, {}]",
            stored.len(),
            self.rows,
            self.columns
        );
        let per_tile = self.columns / kind.block();
        let Scales::Halves(scales) = &mut self.scales else {
            unreachable!("ggml has no NF4");
        };
        let (codes, scales) = (SharedMut::new(&mut self.codes), SharedMut::new(scales));
        let tiles = first / ROWS..last.div_ceil(ROWS);
        parallel_for(tiles.len(), |task| {
            let tile = tiles.start + task;
            // SAFETY: each tile belongs to one task, and the rows are in range, as asserted.
            let (codes, scales) = unsafe {
                (
                    codes.slice(tile * per_tile * kind.lines(), per_tile * kind.lines()),
                    scales.slice(tile * per_tile * ROWS, per_tile * ROWS),
                )
            };
            for row in (tile * ROWS).max(first)..(tile * ROWS + ROWS).min(last) {
                let stored = &stored[(row - first) * row_bytes..][..row_bytes];
                for (block, stored) in stored.chunks_exact(block_bytes).enumerate() {
                    scales[block * ROWS + row % ROWS] = f16::from_le_bytes([stored[0], stored[1]]);
                    let lines = &mut codes[block * kind.lines()..][..kind.lines()];
                    if kind == PackedFormat::Q4_0 {
                        // sixteen low nibbles, then the high ones of the same bytes
                        pack_nibbles(lines, row % ROWS, |input| {
                            stored[2 + input % 16] >> (input / 16 * 4) & 15
                        });
                    } else {
                        for (line, quad) in lines.iter_mut().zip(stored[2..].as_chunks::<QUAD>().0) {
                            for (target, code) in line.0[row % ROWS * QUAD..].iter_mut().zip(quad) {
                                *target = code ^ 128;
                            }
                        }
                    }
                }
            }
        });
    }

    /// Output and input features.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// The format of the codes.
    pub fn kind(&self) -> PackedFormat {
        self.kind
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let scales = match &self.scales {
            Scales::Floats(scales) => size_of_val(scales.as_slice()),
            Scales::Halves(scales) => size_of_val(scales.as_slice()),
        };
        size_of_val(self.codes.as_slice()) + scales
    }

    /// Blocks per row.
    pub(super) fn blocks(&self) -> usize {
        self.columns / self.kind.block()
    }

    /// Index, among the blocks of all tiles, of a row's block of inputs.
    fn block_index(&self, row: usize, block: usize) -> usize {
        row / ROWS * self.blocks() + block
    }

    /// The scale of one row in the block at `block_index`.
    pub(super) fn scale(&self, block_index: usize, row: usize) -> f32 {
        match &self.scales {
            Scales::Floats(scales) => scales[block_index * ROWS + row],
            Scales::Halves(scales) => scales[block_index * ROWS + row].to_f32(),
        }
    }

    /// The value that one code encodes, −128 … 127.
    pub(super) fn code(&self, block_index: usize, row: usize, input: usize) -> i8 {
        let lines = &self.codes[block_index * self.kind.lines()..];
        let nibble = || lines[input / 8].0[row * QUAD + input % QUAD] >> (input / QUAD % 2 * 4) & 15;
        match self.kind {
            PackedFormat::Nf4 => (LEVELS[usize::from(nibble())] ^ 128).cast_signed(),
            PackedFormat::Q4_0 => nibble().cast_signed() - 8,
            PackedFormat::Q8_0 => (lines[input / QUAD].0[row * QUAD + input % QUAD] ^ 128).cast_signed(),
        }
    }

    /// Dequantizes `out.len()` elements of the row-major matrix, beginning at `start`.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        let block = self.kind.block();
        let mut rest = out;
        let mut at = start;
        while !rest.is_empty() {
            let (row, column) = (at / self.columns, at % self.columns);
            assert!(row < self.rows, "row {row} of a weight of {}", self.rows);
            let (block_index, first) = (self.block_index(row, column / block), column % block);
            let (part, others) = rest.split_at_mut((block - first).min(rest.len()));
            let scale = self.scale(block_index, row % ROWS);
            for (offset, target) in part.iter_mut().enumerate() {
                *target = f32::from(self.code(block_index, row % ROWS, first + offset)) * scale;
            }
            at += part.len();
            rest = others;
        }
    }

    /// The whole matrix in f32, row-major.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.columns];
        self.widen(0, &mut out);
        out
    }
}

/// Packs one row's 4-bit codes into a tile's lines.
fn pack_nibbles(lines: &mut [Line], row: usize, code: impl Fn(usize) -> u8) {
    for (group, line) in lines.iter_mut().enumerate() {
        for j in 0..QUAD {
            let input = group * 2 * QUAD + j;
            line.0[row * QUAD + j] = code(input) | code(input + QUAD) << 4;
        }
    }
}
