//! Packs the right operand into panels, in the order that the micro-kernels read.
//!
//! A panel is `[units][columns]` 4-byte units (an f32, or a pair of bf16 with the first along `k` in the low
//! half) of as many columns as [`Format::panel`] says, zero-padded in both directions. Panels of a block follow each other.

use std::ops::Range;

use super::{Block, Format, PANEL, Right, grow};

/// Elements along `k` that plain code takes at once.
const DEEP: usize = 32;
/// Units of stored rows that vectors take at once, along all panels.
const ROWS: usize = 16;

/// A rectangle of one panel: columns of the panel and elements along `k` within the block's depth.
struct Part {
    columns: Range<usize>,
    depth: Range<usize>,
}

/// One panel being packed.
struct Packing<'a> {
    right: &'a Right<'a>,
    /// The operand's column and depth that the panel begins with.
    column: usize,
    depth: usize,
    /// Columns and elements along `k`.
    width: usize,
    length: usize,
    format: Format,
}

/// Packs all panels of a block, `length` elements from `depth` on.
pub(super) fn panels(
    right: &Right<'_>,
    block: &Block,
    (depth, length): (usize, usize),
    format: Format,
    packed: &mut Vec<f32>,
) {
    let panel = format.panel();
    let size = format.units(length) * panel;
    let count = block.columns.div_ceil(panel);
    grow(packed, count * size);
    let packing = |index: usize| Packing {
        right,
        column: block.first_column + index * panel,
        depth,
        width: panel.min(block.columns - index * panel),
        length,
        format,
    };
    // a stored row is read along all panels before the next one: the caches and the prefetcher know only rows
    let units = length / format.unit();
    let step = if right.transposed { units } else { ROWS };
    for first in (0..units).step_by(step.max(1)) {
        for (index, panel) in packed.chunks_exact_mut(size).enumerate().take(count) {
            packing(index).tiles(first..(first + step).min(units), panel);
        }
    }
    for (index, panel) in packed.chunks_exact_mut(size).enumerate().take(count) {
        packing(index).rest(panel);
    }
}

impl Packing<'_> {
    /// The remainder that vectors do not pack: below their columns, and right of them.
    fn rest(&self, panel: &mut [f32]) {
        let (columns, depth) = self.by_vectors();
        if self.width < self.format.panel() || panel.len() / self.format.panel() * self.format.unit() > self.length {
            self.clear(panel);
        }
        let below = Part {
            columns: 0..columns,
            depth: depth..self.length,
        };
        let right_of = Part {
            columns: columns..self.width,
            depth: 0..self.length,
        };
        for part in [below, right_of] {
            if !part.columns.is_empty() && !part.depth.is_empty() {
                self.plain(part, panel);
            }
        }
    }

    /// Zeros what no element of the operand will fill.
    fn clear(&self, panel: &mut [f32]) {
        for (unit, row) in panel.chunks_exact_mut(self.format.panel()).enumerate() {
            let from = if unit * self.format.unit() < self.length {
                self.width
            } else {
                0
            };
            row[from..].fill(0.0);
        }
    }

    /// Packs one rectangle without vectors; it begins at a whole unit. Not inlined: its scratch is cleared on entry,
    /// which whole panels need not pay for.
    #[inline(never)]
    fn plain(&self, part: Part, panel: &mut [f32]) {
        let Part { columns, depth } = part;
        let panel_width = self.format.panel();
        let mut values = [0.0f32; DEEP * PANEL]; // [PANEL, DEEP] or [DEEP, PANEL]
        let stride = self.right.stride;
        for first in depth.clone().step_by(DEEP) {
            let deep = DEEP.min(depth.end - first);
            if self.right.transposed {
                for column in columns.clone() {
                    let start = (self.column + column) * stride + self.depth + first;
                    let row = &mut values[column * DEEP..column * DEEP + deep];
                    self.right.matrix.widen(start, row);
                }
            } else {
                for (offset, row) in values.chunks_exact_mut(PANEL).enumerate().take(deep) {
                    let start = (self.depth + first + offset) * stride + self.column + columns.start;
                    self.right.matrix.widen(start, &mut row[columns.clone()]);
                }
            }
            let (by_column, by_depth) = if self.right.transposed { (DEEP, 1) } else { (1, PANEL) };
            let value = |column: usize, offset: usize| values[column * by_column + offset * by_depth];
            if self.format.pairs {
                for offset in (0..deep).step_by(2) {
                    let row = (first + offset) / 2 * panel_width;
                    for column in columns.clone() {
                        let odd = if offset + 1 < deep {
                            value(column, offset + 1)
                        } else {
                            0.0
                        };
                        panel[row + column] = pair_of(value(column, offset), odd);
                    }
                }
            } else {
                for offset in 0..deep {
                    for column in columns.clone() {
                        panel[(first + offset) * panel_width + column] = value(column, offset);
                    }
                }
            }
        }
    }

    /// Columns and elements along `k` that vectors pack, both from 0.
    fn by_vectors(&self) -> (usize, usize) {
        if !self.format.has_lanes() {
            return (0, 0);
        }
        let side = self.format.unit() * if self.right.transposed { 16 } else { 1 };
        (self.width / 16 * 16, self.length / side * side)
    }

    /// Packs what vectors can of some units.
    #[cfg(simd_x86)]
    fn tiles(&self, units: Range<usize>, panel: &mut [f32]) {
        use super::tile16::Tile16x16;
        let (columns, depth) = self.by_vectors();
        let (unit, stride, width) = (self.format.unit(), self.right.stride, self.format.panel());
        let units = units.start..units.end.min(depth / unit);
        let tile = |start| Tile16x16 {
            matrix: self.right.matrix,
            start,
            stride,
            out_stride: width,
        };
        for column in (0..columns).step_by(16) {
            if self.right.transposed {
                for first in units.clone().step_by(16) {
                    let tile = tile((self.column + column) * stride + self.depth + first * unit);
                    let out = panel[first * width + column..].as_mut_ptr();
                    // SAFETY: the operand reaches these rows and columns, and the panel has the lines.
                    unsafe { tile.transpose_rows(self.format, out) };
                }
            } else if !units.is_empty() {
                let tile = tile((self.depth + units.start * unit) * stride + self.column + column);
                let out = panel[units.start * width + column..].as_mut_ptr();
                // SAFETY: as above.
                unsafe { tile.copy_columns(self.format, units.len(), out) };
            }
        }
    }

    #[cfg(not(simd_x86))]
    fn tiles(&self, _units: Range<usize>, _panel: &mut [f32]) {}
}

/// Two values rounded to bf16 (nearest, ties to even) in one 32-bit unit.
#[inline(always)]
fn pair_of(even: f32, odd: f32) -> f32 {
    f32::from_bits(crate::math::round_bf16(even) | (crate::math::round_bf16(odd) << 16))
}
