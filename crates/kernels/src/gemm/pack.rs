//! Bringing operands into the order the micro-kernels read.
//!
//! A panel is `[length][PANEL]` f32, or `[length / 2][PANEL]` pairs of bf16 (the even element in the
//! low half), zero-padded in both directions. Panels of a block follow each other.

use super::{DEPTH, Left, PANEL, Right, Shape};
use crate::parallel::{SharedMut, for_each_row_block, parallel_for};

/// The part of the right operand that one block needs.
pub(super) struct Source<'a> {
    pub(super) right: Right<'a>,
    pub(super) depth: usize,
    pub(super) length: usize,
    pub(super) first: usize,
    pub(super) columns: usize,
}

/// Packs all panels of a block into `packed`; `decoded` is scratch.
pub(super) fn panels(source: &Source<'_>, halves: bool, packed: &mut Vec<f32>, decoded: &mut Vec<f32>) {
    let count = source.columns.div_ceil(PANEL);
    let deep = if halves {
        source.length.div_ceil(2)
    } else {
        source.length
    };
    packed.resize(count * deep * PANEL, 0.0);
    decoded.resize(PANEL * DEPTH, 0.0);
    for (index, panel) in packed.chunks_exact_mut(deep * PANEL).enumerate() {
        let first = source.first + index * PANEL;
        let width = PANEL.min(source.columns - index * PANEL);
        if source.right.transposed {
            load_rows(source, first, width, decoded);
            scatter(decoded, width, source.length, halves, panel);
        } else {
            gather(source, first, width, halves, panel, decoded);
        }
    }
}

/// Reads `width` rows of the stored `[n, k]` matrix, `length` elements from `depth` on, into scratch.
fn load_rows(source: &Source<'_>, first: usize, width: usize, decoded: &mut [f32]) {
    for column in 0..width {
        let start = (first + column) * source.right.stride + source.depth;
        source
            .right
            .matrix
            .widen(start, &mut decoded[column * DEPTH..column * DEPTH + source.length]);
    }
}

crate::isa::multiversion! {
    fn scatter(rows: &[f32], width: usize, length: usize, halves: bool, panel: &mut [f32]) = scatter_body
}

#[inline(always)]
fn scatter_body(rows: &[f32], width: usize, length: usize, halves: bool, panel: &mut [f32]) {
    if width < PANEL {
        panel.fill(0.0);
    }
    for column in 0..width {
        let row = &rows[column * DEPTH..column * DEPTH + length];
        if halves {
            for (depth, pair) in row.chunks(2).enumerate() {
                panel[depth * PANEL + column] = pair_of(pair[0], pair.get(1).copied().unwrap_or(0.0));
            }
        } else {
            for (depth, &value) in row.iter().enumerate() {
                panel[depth * PANEL + column] = value;
            }
        }
    }
}

/// Packs from a stored `[k, n]` matrix: rows are already in panel order.
fn gather(source: &Source<'_>, first: usize, width: usize, halves: bool, panel: &mut [f32], decoded: &mut [f32]) {
    if width < PANEL {
        panel.fill(0.0);
    }
    let row_start = |depth: usize| (source.depth + depth) * source.right.stride + first;
    if !halves {
        for (depth, target) in panel.chunks_exact_mut(PANEL).enumerate() {
            source.right.matrix.widen(row_start(depth), &mut target[..width]);
        }
        return;
    }
    let (even, odd) = decoded.split_at_mut(PANEL);
    for (pair, target) in panel.chunks_exact_mut(PANEL).enumerate() {
        source.right.matrix.widen(row_start(2 * pair), &mut even[..width]);
        if 2 * pair + 1 < source.length {
            source.right.matrix.widen(row_start(2 * pair + 1), &mut odd[..width]);
        } else {
            odd[..width].fill(0.0);
        }
        interleave(&even[..width], &odd[..width], target);
    }
}

crate::isa::multiversion! {
    fn interleave(even: &[f32], odd: &[f32], target: &mut [f32]) = interleave_body
}

#[inline(always)]
fn interleave_body(even: &[f32], odd: &[f32], target: &mut [f32]) {
    for ((target, &even), &odd) in target.iter_mut().zip(even).zip(odd) {
        *target = pair_of(even, odd);
    }
}

/// Two values rounded to bf16 (nearest, ties to even) in one 32-bit lane.
#[inline(always)]
fn pair_of(even: f32, odd: f32) -> f32 {
    f32::from_bits(round_bf16(even) | (round_bf16(odd) << 16))
}

#[inline(always)]
fn round_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16
}

/// `[k, m]` with a stride to a dense `[m, k]`.
pub(super) fn transpose(data: &[f32], stride: usize, shape: Shape, parallel: bool) -> Vec<f32> {
    const TILE: usize = 16;
    let Shape { m, k, .. } = shape;
    let mut out = vec![0.0; m * k];
    let target = SharedMut::new(&mut out);
    let task = |tile: usize| {
        let (first, last) = (tile * TILE, (tile * TILE + TILE).min(m));
        // SAFETY: each task owns the rows of its tile.
        let rows = unsafe { target.slice(first * k, (last - first) * k) };
        for depth in (0..k).step_by(TILE) {
            for p in depth..(depth + TILE).min(k) {
                for (row, &value) in data[p * stride + first..p * stride + last].iter().enumerate() {
                    rows[row * k + p] = value;
                }
            }
        }
    };
    if parallel {
        parallel_for(m.div_ceil(TILE), task);
    } else {
        (0..m.div_ceil(TILE)).for_each(task);
    }
    out
}

/// The left operand in bf16 pairs along `k`, `[m, ceil(k / 2)]`.
pub(super) fn round_to_pairs(left: Left<'_>, shape: Shape, parallel: bool) -> Vec<f32> {
    let Shape { m, k, .. } = shape;
    let width = k.div_ceil(2);
    let mut out = vec![0.0f32; m * width];
    let task = |first: usize, rows: &mut [f32]| {
        for (offset, row) in rows.chunks_exact_mut(width).enumerate() {
            let start = (first + offset) * left.stride;
            round_row(&left.data[start..start + k], row);
        }
    };
    if parallel {
        for_each_row_block(&mut out, width, task);
    } else {
        task(0, &mut out);
    }
    out
}

crate::isa::multiversion! {
    fn round_row(values: &[f32], pairs: &mut [f32]) = round_row_body
}

#[inline(always)]
fn round_row_body(values: &[f32], pairs: &mut [f32]) {
    let whole = values.len() / 2;
    for (pair, values) in pairs[..whole].iter_mut().zip(values.chunks_exact(2)) {
        *pair = pair_of(values[0], values[1]);
    }
    if values.len() % 2 == 1 {
        pairs[whole] = pair_of(values[2 * whole], 0.0);
    }
}
