//! The left operand as the micro-kernels read it: rows along `k`, in f32 or in bf16.
//!
//! Activations that already have this layout are used in place; others are copied once, by all threads.

use half::bf16;

use super::{Format, Left, grow};
use crate::{
    Matrix,
    matrix::{Element, convert},
    parallel::{SharedMut, parallel_for},
};

/// The left operand in rows, readable beyond `k` up to the kernel's unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'a> {
    F32 {
        data: &'a [f32],
        stride: usize,
    },
    /// The stride is even, so every row begins a pair.
    Bf16 {
        data: &'a [bf16],
        stride: usize,
    },
}

/// Buffers for copies, reused from product to product.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    floats: Vec<f32>,
    halves: Vec<bf16>,
}

/// Rows that one task copies: a cache line of bf16 where the stored rows run across.
const TILE: usize = 32;
/// Bytes at which rows fall into the same cache sets.
const ALIAS: usize = 4096;

/// Brings `left [m, k]` into rows.
pub(super) fn rows<'a>(
    left: Left<'a>,
    (m, k): (usize, usize),
    format: Format,
    buffer: &'a mut Buffer,
    parallel: bool,
) -> Rows<'a> {
    let stride = left.stride;
    if !left.transposed {
        match left.matrix {
            Matrix::F32(data) if !format.pairs && !(stride * 4).is_multiple_of(ALIAS) => {
                return Rows::F32 { data, stride };
            }
            // whole pairs, and nothing to be read beyond the row's end
            Matrix::Bf16(data)
                if format.pairs
                    && stride.is_multiple_of(2)
                    && k.is_multiple_of(2 * format.units(1))
                    && !(stride * 2).is_multiple_of(ALIAS) =>
            {
                return Rows::Bf16 { data, stride };
            }
            _ => {}
        }
    }
    let task = Task { left, m, k, format };
    if format.pairs {
        let stride = apart(2 * format.units(k), 2);
        task.copy(&mut buffer.halves, stride, parallel);
        Rows::Bf16 {
            data: &buffer.halves,
            stride,
        }
    } else {
        let stride = apart(k, 4);
        task.copy(&mut buffer.floats, stride, parallel);
        Rows::F32 {
            data: &buffer.floats,
            stride,
        }
    }
}

/// A row stride that does not put all rows into the same cache sets.
fn apart(width: usize, bytes: usize) -> usize {
    if (width * bytes).is_multiple_of(ALIAS) {
        width + 64 / bytes
    } else {
        width
    }
}

struct Task<'a> {
    left: Left<'a>,
    m: usize,
    k: usize,
    format: Format,
}

impl Task<'_> {
    fn copy<T: Element>(&self, out: &mut Vec<T>, stride: usize, parallel: bool) {
        grow(out, self.m * stride);
        let target = SharedMut::new(out);
        let tile = |index: usize| {
            let first = index * TILE;
            let count = TILE.min(self.m - first);
            // SAFETY: each task owns the rows of its tile.
            let rows = unsafe { target.slice(first * stride, count * stride) };
            if self.left.transposed {
                self.transpose(first, rows, stride);
            } else {
                self.take(first, rows, stride);
            }
            for row in rows.chunks_exact_mut(stride) {
                row[self.k..].fill(T::default());
            }
        };
        let tiles = self.m.div_ceil(TILE);
        if parallel {
            parallel_for(tiles, tile);
        } else {
            (0..tiles).for_each(tile);
        }
    }

    /// Copies rows as they are.
    fn take<T: Element>(&self, first: usize, rows: &mut [T], stride: usize) {
        let mut wide = [0.0; 256];
        for (offset, row) in rows.chunks_exact_mut(stride).enumerate() {
            let start = (first + offset) * self.left.stride;
            if let Matrix::F32(values) = self.left.matrix {
                convert(&values[start..start + self.k], &mut row[..self.k]);
                continue;
            }
            for (index, piece) in row[..self.k].chunks_mut(wide.len()).enumerate() {
                let wide = &mut wide[..piece.len()];
                self.left.matrix.widen(start + index * 256, wide);
                convert(wide, piece);
            }
        }
    }

    /// Copies columns `first..` of the stored `[k, m]` matrix into rows.
    fn transpose<T: Element>(&self, first: usize, rows: &mut [T], stride: usize) {
        const DEEP: usize = 32;
        let count = rows.len() / stride;
        let done = self.transpose_tiles(first, rows, stride);
        if done == self.k {
            return;
        }
        let mut wide = [[0.0f32; TILE]; DEEP];
        let mut line = [0.0f32; DEEP];
        for depth in (done..self.k).step_by(DEEP) {
            let deep = DEEP.min(self.k - depth);
            for (offset, wide) in wide[..deep].iter_mut().enumerate() {
                let start = (depth + offset) * self.left.stride + first;
                self.left.matrix.widen(start, &mut wide[..count]);
            }
            for (column, row) in rows.chunks_exact_mut(stride).enumerate() {
                for (value, wide) in line.iter_mut().zip(&wide[..deep]) {
                    *value = wide[column];
                }
                convert(&line[..deep], &mut row[depth..depth + deep]);
            }
        }
    }

    /// The part of [`Task::transpose`] that vectors do; returns the depth reached.
    fn transpose_tiles<T: Element>(&self, first: usize, rows: &mut [T], stride: usize) -> usize {
        let (count, unit) = (rows.len() / stride, self.format.unit());
        if !count.is_multiple_of(16) || !self.format.has_lanes() {
            return 0;
        }
        let depth = self.k / (16 * unit) * 16 * unit;
        #[cfg(simd_x86)]
        for at in (0..depth).step_by(16 * unit) {
            for column in (0..count).step_by(16) {
                let tile = super::tile16::Tile16x16 {
                    matrix: self.left.matrix,
                    start: at * self.left.stride + first + column,
                    stride: self.left.stride,
                    out_stride: stride / unit,
                };
                let out = rows[column * stride + at..].as_mut_ptr().cast::<f32>();
                // SAFETY: `T` is as wide as the format's element; sixteen rows from `column` on have sixteen units.
                unsafe { tile.transpose_columns(self.format, out) };
            }
        }
        #[cfg(not(simd_x86))]
        let _ = (first, rows);
        depth
    }
}
