//! Blocks of channels, a lane each, and segments of tokens: copies in and out of row-major matrices.

use std::ops::Range;

use super::{ScanInputs, ScanParameters};
use crate::{math::exp, parallel::SharedMut};

/// Channels of a block.
pub(super) const LANES: usize = 16;

/// Tokens taken at once.
const SEGMENT: usize = 64;

/// One value for each channel of a block.
pub(super) type Lanes = [f32; LANES];

/// The parameters with a lane for each channel of a block.
pub(super) struct Blocks {
    /// `[blocks, state]`
    a: Vec<Lanes>,
    /// `[blocks]`
    d: Vec<Lanes>,
}

/// One block's parameters.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    /// `[state]`
    pub(super) a: &'a [Lanes],
    pub(super) d: &'a Lanes,
}

impl Blocks {
    pub(super) fn new(parameters: ScanParameters<'_>) -> Self {
        let state = parameters.state;
        let d: Vec<_> = parameters.d.chunks(LANES).map(lanes).collect();
        let mut a = vec![[0.0; LANES]; d.len() * state];
        for block in 0..d.len() {
            let last = (block + 1) * LANES * state;
            let a_log = &parameters.a_log[block * LANES * state..last.min(parameters.a_log.len())];
            transpose(a_log, &mut a[block * state..(block + 1) * state]);
        }
        negate_exp(a.as_flattened_mut());
        Self { a, d }
    }

    pub(super) fn get(&self, block: usize) -> Block<'_> {
        let state = self.a.len() / self.d.len();
        Block {
            a: &self.a[block * state..(block + 1) * state],
            d: &self.d[block],
        }
    }
}

/// Up to [`SEGMENT`] tokens of one block.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    /// `[tokens]`
    pub(super) x: &'a [Lanes],
    /// `[tokens]`
    pub(super) delta: &'a [Lanes],
    /// `[tokens, state]`
    pub(super) b: &'a [f32],
    /// `[tokens, state]`
    pub(super) c: &'a [f32],
}

impl<'a> Segment<'a> {
    pub(super) fn new(
        x: &'a [Lanes],
        delta: &'a [Lanes],
        inputs: ScanInputs<'a>,
        state: usize,
        rows: &Range<usize>,
    ) -> Self {
        let range = rows.start * state..rows.end * state;
        Self {
            x,
            delta,
            b: &inputs.b[range.clone()],
            c: &inputs.c[range],
        }
    }
}

/// The segments of a document's rows.
pub(super) fn segments(rows: Range<usize>) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator {
    let Range { start, end } = rows;
    (0..rows.len().div_ceil(SEGMENT)).map(move |index| {
        let first = start + index * SEGMENT;
        first..(first + SEGMENT).min(end)
    })
}

/// At most [`LANES`] values; the lanes that are left are zero, which keeps their states at zero.
fn lanes(values: &[f32]) -> Lanes {
    values.first_chunk().copied().unwrap_or_else(|| {
        let mut lanes = [0.0; LANES];
        lanes[..values.len()].copy_from_slice(values);
        lanes
    })
}

/// Rows and columns of a matrix `[_, width]`, a row to each element of `out`.
pub(super) fn pack(matrix: &[f32], width: usize, rows: &Range<usize>, columns: &Range<usize>, out: &mut Vec<Lanes>) {
    out.clear();
    out.extend(rows.clone().map(|row| {
        let start = row * width;
        lanes(&matrix[start + columns.start..start + columns.end])
    }));
}

/// The reverse of [`pack`].
///
/// # Safety
/// The rows and columns must lie inside the matrix, and no other task may touch them.
pub(super) unsafe fn unpack(
    values: &[Lanes],
    width: usize,
    rows: &Range<usize>,
    columns: &Range<usize>,
    matrix: SharedMut<'_>,
) {
    for (row, values) in rows.clone().zip(values) {
        // SAFETY: the caller promises bounds and exclusiveness.
        let target = unsafe { matrix.slice(row * width + columns.start, columns.len()) };
        target.copy_from_slice(&values[..columns.len()]);
    }
}

/// Some channels' `[channels, state]` into `[state]` lanes.
pub(super) fn transpose(values: &[f32], out: &mut [Lanes]) {
    for (lane, values) in values.chunks_exact(out.len()).enumerate() {
        for (out, value) in out.iter_mut().zip(values) {
            out[lane] = *value;
        }
    }
}

/// The reverse of [`transpose`].
pub(super) fn transpose_back(values: &[Lanes], out: &mut [f32]) {
    for (lane, out) in out.chunks_exact_mut(values.len()).enumerate() {
        for (out, values) in out.iter_mut().zip(values) {
            *out = values[lane];
        }
    }
}

/// The first `len` elements of a buffer that grows where it must; they hold anything.
pub(super) fn at_least(buffer: &mut Vec<Lanes>, len: usize) -> &mut [Lanes] {
    if buffer.len() < len {
        buffer.resize(len, [0.0; LANES]);
    }
    &mut buffer[..len]
}

crate::isa::multiversion! {
    fn negate_exp(values: &mut [f32]) = negate_exp_body
}

#[inline(always)]
fn negate_exp_body(values: &mut [f32]) {
    for value in values {
        *value = -exp(*value);
    }
}
