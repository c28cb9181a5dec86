//! Causal depthwise convolution with SiLU (Mamba, Gu and Dao 2023). Inside a document
//! `z[t, c] = b[c] + Σ_j w[c, j]·x[t − K + 1 + j, c]` and `y = z·σ(z)`, with zeros before the first row.
//!
//! A row is always the same sums in the same order, so where a document is cut changes no bit. What this is not: a
//! general convolution; it knows no strides, no dilation and no sums over channels.

use std::ops::Range;

use super::documents;
use crate::{
    math::sigmoid,
    parallel::{SharedMut, for_each_row_block, parallel_for, threads},
};

/// One filter a channel.
#[derive(Debug, Clone, Copy)]
pub struct ConvFilter<'a> {
    /// `w [channels, width]`; a channel's last tap belongs to the current row.
    pub weight: &'a [f32],
    /// `b [channels]`
    pub bias: &'a [f32],
    /// Taps K of a channel, at least one.
    pub width: usize,
}

/// Where the backward pass writes.
#[derive(Debug)]
pub struct ConvGradients<'a> {
    /// `[t, channels]`, overwritten
    pub x: &'a mut [f32],
    /// `[channels, width]`, added to
    pub weight: &'a mut [f32],
    /// `[channels]`, added to
    pub bias: &'a mut [f32],
}

/// `y [t, channels]` of `x [t, channels]`, whose documents have `lengths` rows.
///
/// A document's state is its last K − 1 inputs, `[width − 1, channels]` with the oldest first; it is read before the
/// document and left as it is after it, and zeros are the state before the first row. None starts every document
/// from zeros and keeps nothing.
///
/// # Panics
/// If an operand is too short.
pub fn forward(
    filter: ConvFilter<'_>,
    x: &[f32],
    lengths: &[usize],
    mut states: Option<&mut [&mut [f32]]>,
    y: &mut [f32],
) {
    let taps = Taps::new(filter);
    let channels = taps.channels();
    let size = lengths.iter().sum::<usize>() * channels;
    let zeros = vec![0.0; taps.history()];
    assert!(
        x.len() >= size && y.len() >= size && states.as_ref().is_none_or(|states| states.len() >= lengths.len()),
        "operands of the convolution are too short"
    );
    let kept = states.as_deref();
    for_each_row_block(&mut y[..size], channels, |first, block| {
        let last = first + block.len() / channels;
        for (index, rows) in documents(lengths).enumerate() {
            let part = rows.start.max(first)..rows.end.min(last);
            if part.is_empty() {
                continue;
            }
            let document = Document {
                history: kept.map_or(&zeros[..], |states| &states[index][..zeros.len()]),
                x: &x[rows.start * channels..rows.end * channels],
            };
            let target = &mut block[(part.start - first) * channels..(part.end - first) * channels];
            forward_rows(&taps, document, part.start - rows.start, target);
        }
    });
    for (rows, state) in documents(lengths).zip(states.iter_mut().flat_map(|states| states.iter_mut())) {
        advance(
            &mut state[..zeros.len()],
            &x[rows.start * channels..rows.end * channels],
        );
    }
}

/// Shifts `x` into `state`, which keeps the last rows.
fn advance(state: &mut [f32], x: &[f32]) {
    let fresh = x.len().min(state.len());
    state.copy_within(fresh.., 0);
    let kept = state.len() - fresh;
    state[kept..].copy_from_slice(&x[x.len() - fresh..]);
}

/// The gradients of [`forward`] from zero states, from `dy [t, channels]`: with `dz = dy·σ(z)·(1 + z·(1 − σ(z)))`,
/// `dx[t] = Σ_j w[j]·dz[t + K − 1 − j]`, `dw[j] = Σ_t dz[t]·x[t − K + 1 + j]` and `db = Σ_t dz[t]`, where z is
/// computed again. Sets `gradients.x` and adds to the others.
///
/// # Panics
/// If an operand is too short.
pub fn backward(filter: ConvFilter<'_>, x: &[f32], lengths: &[usize], dy: &[f32], gradients: ConvGradients<'_>) {
    let taps = Taps::new(filter);
    let (channels, width) = (taps.channels(), taps.width);
    let size = lengths.iter().sum::<usize>() * channels;
    let ConvGradients { x: dx, weight, bias } = gradients;
    assert!(
        x.len() >= size && dy.len() >= size && dx.len() >= size,
        "operands of the convolution are too short"
    );
    assert!(
        weight.len() >= channels * width && bias.len() >= channels,
        "the filter's gradients are too short"
    );
    let zeros = vec![0.0; taps.history()];
    let (dx, weight, bias) = (SharedMut::new(dx), SharedMut::new(weight), SharedMut::new(bias));
    // a channel's sums take the rows in order, whatever block the channel is in
    let block = channels.div_ceil(threads()).clamp(64, 256);
    parallel_for(channels.div_ceil(block), |task| {
        let columns = task * block..(task * block + block).min(channels);
        let mut sums = Sums {
            dz: vec![0.0; columns.len()],
            weight: vec![0.0; columns.len() * width],
            bias: vec![0.0; columns.len()],
        };
        for rows in documents(lengths) {
            let range = rows.start * channels..rows.end * channels;
            let document = Document {
                history: &zeros,
                x: &x[range.clone()],
            };
            let target = Target {
                dx,
                start: rows.start,
                columns: columns.clone(),
            };
            backward_document(&taps, document, &dy[range], &target, &mut sums);
        }
        // SAFETY: each task owns its channels, and the lengths were checked above.
        let (weight, bias) = unsafe {
            (
                weight.slice(columns.start * width, columns.len() * width),
                bias.slice(columns.start, columns.len()),
            )
        };
        for (channel, weight) in weight.chunks_exact_mut(width).enumerate() {
            for (tap, weight) in weight.iter_mut().enumerate() {
                *weight += sums.weight[tap * columns.len() + channel];
            }
        }
        for (bias, sum) in bias.iter_mut().zip(&sums.bias) {
            *bias += sum;
        }
    });
}

/// The filter with a row for each tap, so that the loops run along channels.
struct Taps<'a> {
    /// `[width, channels]`
    weight: Vec<f32>,
    bias: &'a [f32],
    width: usize,
}

impl<'a> Taps<'a> {
    fn new(filter: ConvFilter<'a>) -> Self {
        let (channels, width) = (filter.bias.len(), filter.width);
        assert!(
            width > 0 && filter.weight.len() == channels * width,
            "a filter of {channels} channels and {width} taps cannot have {} weights",
            filter.weight.len()
        );
        Self {
            weight: (0..width * channels)
                .map(|i| filter.weight[i % channels * width + i / channels])
                .collect(),
            bias: filter.bias,
            width,
        }
    }

    fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Elements of the rows that stand before a document.
    fn history(&self) -> usize {
        (self.width - 1) * self.channels()
    }

    /// One tap of some channels.
    #[inline(always)]
    fn tap(&self, tap: usize, columns: &Range<usize>) -> &[f32] {
        let start = tap * self.channels();
        &self.weight[start + columns.start..start + columns.end]
    }

    /// `z[t]` of some channels.
    #[inline(always)]
    fn sum(&self, document: Document<'_>, t: usize, columns: &Range<usize>, z: &mut [f32]) {
        z.copy_from_slice(&self.bias[columns.clone()]);
        for tap in 0..self.width {
            let x = &document.row(t + tap, self.channels())[columns.clone()];
            for ((z, weight), x) in z.iter_mut().zip(self.tap(tap, columns)).zip(x) {
                *z += weight * x;
            }
        }
    }
}

/// One document and what stands before it.
#[derive(Clone, Copy)]
struct Document<'a> {
    /// `[width − 1, channels]`
    history: &'a [f32],
    /// `[rows, channels]`
    x: &'a [f32],
}

impl<'a> Document<'a> {
    /// A row, counted from the history's first.
    #[inline(always)]
    fn row(self, row: usize, channels: usize) -> &'a [f32] {
        let start = row * channels;
        match start.checked_sub(self.history.len()) {
            Some(start) => &self.x[start..start + channels],
            None => &self.history[start..start + channels],
        }
    }
}

crate::isa::multiversion! {
    /// The rows of one document from `first` on.
    fn forward_rows(taps: &Taps<'_>, document: Document<'_>, first: usize, y: &mut [f32]) = forward_rows_body
}

#[inline(always)]
fn forward_rows_body(taps: &Taps<'_>, document: Document<'_>, first: usize, y: &mut [f32]) {
    let channels = taps.channels();
    for (offset, y) in y.chunks_exact_mut(channels).enumerate() {
        taps.sum(document, first + offset, &(0..channels), y);
        for y in y {
            *y *= sigmoid(*y);
        }
    }
}

/// The part of `dx` that one task owns of one document.
struct Target<'a> {
    dx: SharedMut<'a>,
    /// The document's first row.
    start: usize,
    columns: Range<usize>,
}

/// The filter's gradient of some channels.
struct Sums {
    /// `dz` of one row, `[columns]`
    dz: Vec<f32>,
    /// `[width, columns]`
    weight: Vec<f32>,
    /// `[columns]`
    bias: Vec<f32>,
}

crate::isa::multiversion! {
    /// One document's part of the gradients of some channels; `dy` is the document's.
    fn backward_document(taps: &Taps<'_>, document: Document<'_>, dy: &[f32], target: &Target<'_>, sums: &mut Sums) = backward_document_body
}

#[inline(always)]
fn backward_document_body(taps: &Taps<'_>, document: Document<'_>, dy: &[f32], target: &Target<'_>, sums: &mut Sums) {
    let (channels, columns) = (taps.channels(), &target.columns);
    let Sums { dz, weight, bias } = sums;
    for (t, dy) in dy.chunks_exact(channels).enumerate() {
        taps.sum(document, t, columns, dz);
        for ((dz, dy), bias) in dz.iter_mut().zip(&dy[columns.clone()]).zip(&mut *bias) {
            let s = sigmoid(*dz);
            *dz = dy * s * (1.0 + *dz * (1.0 - s));
            *bias += *dz;
        }
        // from the current row back; before the document's first row are zeros that learn nothing
        for age in 0..taps.width.min(t + 1) {
            let tap = taps.width - 1 - age;
            let place = (t - age) * channels;
            let x = &document.x[place + columns.start..place + columns.end];
            let sum = &mut weight[tap * columns.len()..(tap + 1) * columns.len()];
            for ((sum, dz), x) in sum.iter_mut().zip(&*dz).zip(x) {
                *sum += dz * x;
            }
            let place = (target.start + t - age) * channels + columns.start;
            // SAFETY: one task owns these channels of all rows, and `backward` checked the length.
            let dx = unsafe { target.dx.slice(place, columns.len()) };
            let parts = dx.iter_mut().zip(&*dz).zip(taps.tap(tap, columns));
            // a row's first part comes with its own dz
            if age == 0 {
                parts.for_each(|((dx, dz), weight)| *dx = weight * dz);
            } else {
                parts.for_each(|((dx, dz), weight)| *dx += weight * dz);
            }
        }
    }
}

#[cfg(test)]
mod tests;
