//! Weights packed in tiles of sixteen rows: the memory layout of their codes, and the values they encode.

use half::f16;

use super::{PackedFormat, QUAD, ROWS, format::LEVELS, stored::Unpacked};
use crate::{
    Nf4Matrix,
    parallel::{SharedMut, parallel_for},
};

/// The longest block of any format.
pub(super) const MAX_BLOCK: usize = 64;

/// Four codes, or four pairs of two, of each of sixteen rows; one load of a vector.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u8; ROWS * QUAD]);

/// Scales of all tiles.
#[derive(Debug, Clone)]
pub(super) enum Scales {
    /// `[rows/16][columns/block][16]`
    Floats(Vec<f32>),
    /// `[rows/16][columns/block][16]`
    Halves(Vec<f16>),
    /// Of K-quants.
    Units(Units),
}

/// Scales in two levels.
#[derive(Debug, Clone)]
pub(super) struct Units {
    /// The unit of the scales and that of the minima, `[rows/16][columns/256][2][16]`.
    pub(super) units: Vec<[f16; ROWS]>,
    /// Scales and minima of blocks, or scales of their halves, `[rows/16][columns/block][2][16]`.
    pub(super) parts: Vec<[u8; ROWS]>,
}

/// Two levels of scales of one row's block: a value is `code · (scale · unit) − minimum · minimum_unit`.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) unit: f32,
    /// Of the block's two halves.
    pub(super) scales: [i32; 2],
    pub(super) minimum_unit: f32,
    pub(super) minimum: i32,
}

/// A weight `[rows, columns]`, packed in tiles of sixteen rows.
///
/// Codes of 4 bits are `[rows/16][columns/block][block/8]` lines: byte `r, j` of line `v` holds the inputs `8v + j`
/// (low) and `8v + 4 + j` (high) of row `r`. Those of 8 bits are `[rows/16][columns/block][block/4]` lines: byte
/// `r, j` of line `v` is the input `4v + j`, plus 128. Codes of 5 and 6 bits have their upper bits in further lines of the
/// block: Q5_K's bit `2v + h` of byte `r, j` belongs to the input `8v + 4h + j`; Q6_K's bits `4(v mod 2) + 2h` and the
/// next, in the first line for `v < 2` and else in the second.
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
        columns > 0 && columns.is_multiple_of(kind.block() * kind.group())
    }

    /// A weight of zeros, to be filled by [`PackedWeight::store_rows`].
    ///
    /// # Panics
    /// If the inputs are not a whole number of blocks ([`PackedWeight::fits`]).
    pub fn zeros(kind: PackedFormat, rows: usize, columns: usize) -> Self {
        assert!(
            Self::fits(kind, columns),
            "{columns} inputs are not a multiple of {}, so the weight cannot be packed",
            kind.block() * kind.group()
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
                PackedFormat::Q4K | PackedFormat::Q5K | PackedFormat::Q6K => Scales::Units(Units {
                    units: vec![[f16::ZERO; ROWS]; blocks / kind.group() * 2],
                    parts: vec![[0; ROWS]; blocks * 2],
                }),
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
        let (kind, columns, stored_bytes) = (self.kind, self.columns, self.kind.stored_bytes());
        let row_bytes = columns / (kind.block() * kind.group()) * stored_bytes;
        let last = first + stored.len() / row_bytes;
        assert!(
            stored.len().is_multiple_of(row_bytes) && last <= self.rows,
            "{} bytes from row {first} on are not whole rows of a {kind:?} weight [{}, {columns}]",
            stored.len(),
            self.rows,
        );
        let tiles = first / ROWS..last.div_ceil(ROWS);
        let target = Target::new(self);
        parallel_for(tiles.len(), |task| {
            let tile = tiles.start + task;
            for row in (tile * ROWS).max(first)..(tile * ROWS + ROWS).min(last) {
                let stored = &stored[(row - first) * row_bytes..][..row_bytes];
                for (group, stored) in stored.chunks_exact(stored_bytes).enumerate() {
                    // SAFETY: each tile belongs to one task, and the rows are in range, as asserted.
                    unsafe { target.store(row, group, &Unpacked::new(kind, stored)) };
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
            Scales::Units(scales) => size_of_val(scales.units.as_slice()) + size_of_val(scales.parts.as_slice()),
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

    /// The scale of one row in the block at `block_index`, of a format with one level of scales.
    pub(super) fn scale(&self, block_index: usize, row: usize) -> f32 {
        match &self.scales {
            Scales::Floats(scales) => scales[block_index * ROWS + row],
            Scales::Halves(scales) => scales[block_index * ROWS + row].to_f32(),
            Scales::Units(_) => unreachable!("K-quants have two levels of scales"),
        }
    }

    /// The scales of one row's block of a K-quant; none for other formats.
    pub(super) fn levels(&self, block_index: usize, row: usize) -> Option<Levels> {
        let Scales::Units(scales) = &self.scales else {
            return None;
        };
        let [unit, minimum_unit] = [0, 1].map(|at| scales.units[self.unit_index(block_index) + at][row].to_f32());
        let parts = [0, 1].map(|at| scales.parts[block_index * 2 + at][row]);
        let (scales, minimum) = if self.kind == PackedFormat::Q6K {
            (parts.map(|part| i32::from(part.cast_signed())), 0)
        } else {
            ([i32::from(parts[0]); 2], i32::from(parts[1]))
        };
        Some(Levels {
            unit,
            scales,
            minimum_unit,
            minimum,
        })
    }

    /// Where a block's units are.
    pub(super) fn unit_index(&self, block_index: usize) -> usize {
        // tiles have whole super-blocks
        block_index / self.kind.group() * 2
    }

    /// The value that one code encodes, −128 … 127.
    pub(super) fn code(&self, block_index: usize, row: usize, input: usize) -> i8 {
        let lines = &self.codes[block_index * self.kind.lines()..];
        let byte = |line: usize| lines[line].0[row * QUAD + input % QUAD];
        let nibble = || byte(input / 8) >> (input / QUAD % 2 * 4) & 15;
        let upper = self.kind.nibble_lines();
        match self.kind {
            PackedFormat::Nf4 => (LEVELS[usize::from(nibble())] ^ 128).cast_signed(),
            PackedFormat::Q4_0 => nibble().cast_signed() - self.kind.offset() as i8,
            PackedFormat::Q8_0 => (byte(input / QUAD) ^ 128).cast_signed(),
            PackedFormat::Q4K => nibble().cast_signed(),
            PackedFormat::Q5K => (nibble() | (byte(upper) >> (input / QUAD) & 1) << 4).cast_signed(),
            PackedFormat::Q6K => {
                let pair = byte(upper + input / 16) >> (input / QUAD % 4 * 2) & 3;
                (nibble() | pair << 4).cast_signed() - self.kind.offset() as i8
            }
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
            let code = |input: usize| f32::from(self.code(block_index, row % ROWS, input));
            if let Some(levels) = self.levels(block_index, row % ROWS) {
                let scales = levels.scales.map(|scale| levels.unit * scale as f32);
                let minimum = levels.minimum_unit * levels.minimum as f32;
                for (input, target) in (first..).zip(part.iter_mut()) {
                    *target = code(input) * scales[input / (block / 2)] - minimum;
                }
            } else {
                let scale = self.scale(block_index, row % ROWS);
                for (input, target) in (first..).zip(part.iter_mut()) {
                    *target = code(input) * scale;
                }
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

/// The parts of a weight that tasks fill, each its own tiles.
struct Target<'a> {
    kind: PackedFormat,
    columns: usize,
    codes: SharedMut<'a, Line>,
    scales: ScalesMut<'a>,
}

enum ScalesMut<'a> {
    Halves(SharedMut<'a, f16>),
    Units(SharedMut<'a, [f16; ROWS]>, SharedMut<'a, [u8; ROWS]>),
}

impl<'a> Target<'a> {
    fn new(weight: &'a mut PackedWeight) -> Self {
        Self {
            kind: weight.kind,
            columns: weight.columns,
            codes: SharedMut::new(&mut weight.codes),
            scales: match &mut weight.scales {
                Scales::Floats(_) => unreachable!("ggml has no NF4"),
                Scales::Halves(scales) => ScalesMut::Halves(SharedMut::new(scales)),
                Scales::Units(scales) => {
                    ScalesMut::Units(SharedMut::new(&mut scales.units), SharedMut::new(&mut scales.parts))
                }
            },
        }
    }

    /// Stores what is stored together, number `group` of the row.
    ///
    /// # Safety
    /// The row and group must be inside the weight, and no other task may use the row's tile.
    unsafe fn store(&self, row: usize, group: usize, unpacked: &Unpacked) {
        let (kind, lane) = (self.kind, row % ROWS);
        let first = row / ROWS * (self.columns / kind.block()) + group * kind.group();
        for block in 0..kind.group() {
            let codes = &unpacked.codes[block * kind.block()..][..kind.block()];
            // SAFETY: guaranteed by the caller.
            let lines = unsafe { self.codes.slice((first + block) * kind.lines(), kind.lines()) };
            pack_block(kind, lines, lane, codes);
        }
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.scales {
                ScalesMut::Halves(scales) => scales.slice(first * ROWS + lane, 1)[0] = unpacked.scale,
                ScalesMut::Units(units, parts) => {
                    let units = units.slice(first / kind.group() * 2, 2);
                    (units[0][lane], units[1][lane]) = (unpacked.scale, unpacked.minimum);
                    let parts = parts.slice(first * 2, 2 * kind.group());
                    for (target, &part) in parts.iter_mut().zip(unpacked.parts.as_flattened()) {
                        target[lane] = part;
                    }
                }
            }
        }
    }
}

/// Packs one row's codes of a block into a tile's lines.
fn pack_block(kind: PackedFormat, lines: &mut [Line], row: usize, codes: &[u8]) {
    if kind == PackedFormat::Q8_0 {
        for (line, quad) in lines.iter_mut().zip(codes.as_chunks::<QUAD>().0) {
            line.0[row * QUAD..][..QUAD].copy_from_slice(quad);
        }
        return;
    }
    let (nibbles, upper) = lines.split_at_mut(kind.nibble_lines());
    pack_nibbles(nibbles, row, |input| codes[input] & 15);
    if upper.is_empty() {
        return;
    }
    for line in &mut *upper {
        line.0[row * QUAD..][..QUAD].fill(0);
    }
    for (input, code) in codes.iter().enumerate() {
        let (line, shift) = match kind {
            PackedFormat::Q5K => (0, input / QUAD),
            _ => (input / 16, input / QUAD % 4 * 2),
        };
        upper[line].0[row * QUAD + input % QUAD] |= code >> 4 << shift;
    }
}
