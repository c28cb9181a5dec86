//! Causal attention with grouped key/value heads, for training: one document at a time. `cached` attends over a
//! key/value cache, for serving.
//!
//! Queries are processed in tiles; no buffer is larger than tile × keys, and the backward pass recomputes the
//! probabilities from the saved log-sum-exp (FlashAttention, Dao et al. 2022).

mod cached;

use std::cell::RefCell;

pub use cached::{CachedSpan, Phase, forward_cached};

use crate::{
    Accumulate, Matrix, MatrixMut, Precision, Shape,
    cross_entropy::{exp_shifted, softmax},
    gemm::{Left, Product, Right, grow},
    math::sum_by,
    matrix::{Element, convert, with_elements},
    parallel::{SharedMut, parallel_for},
};

/// Query rows per tile.
const TILE: usize = 64;

/// Shapes that all documents share.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key/value heads; each serves `queries / keys` query heads.
    pub keys: usize,
    /// Width of a head.
    pub dim: usize,
    /// Rounding of the factors.
    pub precision: Precision,
}

impl Heads {
    fn group(&self) -> usize {
        self.queries / self.keys
    }

    fn query_width(&self) -> usize {
        self.queries * self.dim
    }

    fn key_width(&self) -> usize {
        self.keys * self.dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// One whole document.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// Rotated queries, `[count, queries * dim]`.
    pub q: Matrix<'a>,
    /// Rotated keys, `[count, keys * dim]`.
    pub k: Matrix<'a>,
    /// Values, `[count, keys * dim]`.
    pub v: Matrix<'a>,
    /// Positions.
    pub count: usize,
}

#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    d_scores: Vec<f32>,
    tile: Vec<f32>,
    output: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attention of several spans; `out` and `log_sums` hold the spans one after another:
/// `out [Σ count, queries * dim]`, `log_sums [Σ count * queries]` with `[queries, count]` per span.
pub fn forward<'a>(heads: Heads, spans: &[Span<'_>], out: impl Into<MatrixMut<'a>>, log_sums: &mut [f32]) {
    with_elements!(out.into(), |out| forward_all(heads, spans, out, log_sums));
}

fn forward_all<T: Element>(heads: Heads, spans: &[Span<'_>], out: &mut [T], log_sums: &mut [f32]) {
    let starts = starts(spans);
    let (out, log_sums) = (SharedMut::new(out), SharedMut::new(log_sums));
    parallel_for(spans.len() * heads.keys, |task| {
        let (index, group) = (task / heads.keys, task % heads.keys);
        let span = &spans[index];
        SCRATCH.with_borrow_mut(|scratch| {
            for head in group * heads.group()..(group + 1) * heads.group() {
                // SAFETY: one task owns a query head of a span.
                let log_sums = unsafe { log_sums.slice(starts[index] * heads.queries + head * span.count, span.count) };
                for first in (0..span.count).step_by(TILE) {
                    let rows = TILE.min(span.count - first);
                    forward_tile(heads, span, (head, first, rows), scratch, log_sums);
                    for row in 0..rows {
                        let place = (starts[index] + first + row) * heads.query_width() + head * heads.dim;
                        // SAFETY: one task owns a head's columns of a span.
                        let target = unsafe { out.slice(place, heads.dim) };
                        convert(&scratch.tile[row * heads.dim..(row + 1) * heads.dim], target);
                    }
                }
            }
        });
    });
}

/// First row of each span.
fn starts(spans: &[Span<'_>]) -> Vec<usize> {
    spans
        .iter()
        .scan(0, |next, span| {
            let start = *next;
            *next += span.count;
            Some(start)
        })
        .collect()
}

/// `scale · Q Kᵀ` of one tile into `scores [rows, keys]`; returns the number of keys that the tile attends to.
fn scores(heads: Heads, span: &Span<'_>, (head, first, rows): (usize, usize, usize), scores: &mut Vec<f32>) -> usize {
    let keys = first + rows;
    grow(scores, rows * keys);
    let group = head / heads.group();
    Product {
        shape: Shape {
            m: rows,
            n: keys,
            k: heads.dim,
        },
        left: Left::rows(
            span.q.tail(first * heads.query_width() + head * heads.dim),
            heads.query_width(),
        ),
        right: Right::transposed(span.k.tail(group * heads.dim), heads.key_width()),
        scale: heads.scale(),
        accumulate: Accumulate::Overwrite,
        precision: heads.precision,
    }
    .compute_serial(scores, keys);
    keys
}

fn forward_tile(
    heads: Heads,
    span: &Span<'_>,
    tile: (usize, usize, usize),
    scratch: &mut Scratch,
    log_sums: &mut [f32],
) {
    let (head, first, rows) = tile;
    let keys = scores(heads, span, tile, &mut scratch.scores);
    for row in 0..rows {
        let seen = first + row + 1;
        let (visible, hidden) = scratch.scores[row * keys..(row + 1) * keys].split_at_mut(seen);
        log_sums[first + row] = softmax(visible);
        hidden.fill(0.0);
    }
    grow(&mut scratch.tile, rows * heads.dim);
    let group = head / heads.group();
    Product {
        shape: Shape {
            m: rows,
            n: heads.dim,
            k: keys,
        },
        left: Left::rows(&scratch.scores, keys),
        right: Right::rows(span.v.tail(group * heads.dim), heads.key_width()),
        scale: 1.0,
        accumulate: Accumulate::Overwrite,
        precision: heads.precision,
    }
    .compute_serial(&mut scratch.tile, heads.dim);
}

/// What the backward pass reads besides the spans: the forward pass's saved tensors and the incoming gradient.
#[derive(Debug, Clone, Copy)]
pub struct SavedAttention<'a> {
    /// The forward pass's output.
    pub out: Matrix<'a>,
    /// Its log-sums.
    pub log_sums: &'a [f32],
    /// The gradient of the output.
    pub d_out: &'a [f32],
}

/// Where the backward pass writes; all are overwritten.
#[derive(Debug)]
pub struct AttentionGradients<'a> {
    /// `[Σ count, queries * dim]`
    pub dq: &'a mut [f32],
    /// `[Σ count, keys * dim]`
    pub dk: &'a mut [f32],
    /// `[Σ count, keys * dim]`
    pub dv: &'a mut [f32],
}

/// The backward pass of [`forward`].
#[expect(clippy::needless_pass_by_value, reason = "the gradients are three borrowed buffers")]
pub fn backward(heads: Heads, spans: &[Span<'_>], saved: SavedAttention<'_>, gradients: AttentionGradients<'_>) {
    let starts = starts(spans);
    let (dq, dk, dv) = (
        SharedMut::new(gradients.dq),
        SharedMut::new(gradients.dk),
        SharedMut::new(gradients.dv),
    );
    parallel_for(spans.len() * heads.keys, |task| {
        let (index, group) = (task / heads.keys, task % heads.keys);
        let (span, start) = (&spans[index], starts[index]);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.dk.clear();
            scratch.dk.resize(span.count * heads.dim, 0.0);
            scratch.dv.clear();
            scratch.dv.resize(span.count * heads.dim, 0.0);
            for head in group * heads.group()..(group + 1) * heads.group() {
                for first in (0..span.count).step_by(TILE) {
                    let rows = TILE.min(span.count - first);
                    backward_tile(heads, span, (head, first, rows), &saved, start, scratch);
                    for row in 0..rows {
                        let place = (start + first + row) * heads.query_width() + head * heads.dim;
                        // SAFETY: one task owns a head's columns of a span.
                        let target = unsafe { dq.slice(place, heads.dim) };
                        target.copy_from_slice(&scratch.tile[row * heads.dim..(row + 1) * heads.dim]);
                    }
                }
            }
            for row in 0..span.count {
                let place = (start + row) * heads.key_width() + group * heads.dim;
                let range = row * heads.dim..(row + 1) * heads.dim;
                // SAFETY: one task owns a key head's columns of a span.
                let (dk, dv) = unsafe { (dk.slice(place, heads.dim), dv.slice(place, heads.dim)) };
                dk.copy_from_slice(&scratch.dk[range.clone()]);
                dv.copy_from_slice(&scratch.dv[range]);
            }
        });
    });
}

fn backward_tile(
    heads: Heads,
    span: &Span<'_>,
    tile: (usize, usize, usize),
    saved: &SavedAttention<'_>,
    start: usize,
    scratch: &mut Scratch,
) {
    let (head, first, rows) = tile;
    let (dim, width) = (heads.dim, heads.query_width());
    let group = head / heads.group();
    let offset = (start + first) * width + head * dim;
    let keys = scores(heads, span, tile, &mut scratch.scores);
    let log_sums = &saved.log_sums[start * heads.queries + head * span.count + first..];
    for (row, (scores, &log_sum)) in scratch
        .scores
        .chunks_exact_mut(keys)
        .zip(log_sums)
        .enumerate()
        .take(rows)
    {
        let (visible, hidden) = scores.split_at_mut(first + row + 1);
        exp_shifted(visible, log_sum);
        hidden.fill(0.0);
    }
    let product = |shape, left, right, scale, accumulate| Product {
        shape,
        left,
        right,
        scale,
        accumulate,
        precision: heads.precision,
    };
    let (d_out, key_width) = (&saved.d_out[offset..], heads.key_width());
    // dV += Pᵀ · dO
    let shape = Shape {
        m: keys,
        n: dim,
        k: rows,
    };
    product(
        shape,
        Left::transposed(&scratch.scores, keys),
        Right::rows(d_out, width),
        1.0,
        Accumulate::Add,
    )
    .compute_serial(&mut scratch.dv, dim);
    // dP = dO · Vᵀ
    grow(&mut scratch.d_scores, rows * keys);
    let shape = Shape {
        m: rows,
        n: keys,
        k: dim,
    };
    let right = Right::transposed(span.v.tail(group * dim), key_width);
    product(shape, Left::rows(d_out, width), right, 1.0, Accumulate::Overwrite)
        .compute_serial(&mut scratch.d_scores, keys);
    // dS = P ⊙ (dP − rowsum(dO ⊙ O))
    scratch.output.resize(dim, 0.0);
    for row in 0..rows {
        saved.out.widen(offset + row * width, &mut scratch.output);
        let (gradient, output) = (&d_out[row * width..row * width + dim], &scratch.output);
        let range = row * keys..(row + 1) * keys;
        score_gradient(
            &scratch.scores[range.clone()],
            sum_by(dim, |i| gradient[i] * output[i]),
            &mut scratch.d_scores[range],
        );
    }
    // dQ = scale · dS · K
    grow(&mut scratch.tile, rows * dim);
    let shape = Shape {
        m: rows,
        n: dim,
        k: keys,
    };
    let right = Right::rows(span.k.tail(group * dim), key_width);
    product(
        shape,
        Left::rows(&scratch.d_scores, keys),
        right,
        heads.scale(),
        Accumulate::Overwrite,
    )
    .compute_serial(&mut scratch.tile, dim);
    // dK += scale · dSᵀ · Q
    let shape = Shape {
        m: keys,
        n: dim,
        k: rows,
    };
    let right = Right::rows(span.q.tail(first * width + head * dim), width);
    product(
        shape,
        Left::transposed(&scratch.d_scores, keys),
        right,
        heads.scale(),
        Accumulate::Add,
    )
    .compute_serial(&mut scratch.dk, dim);
}

crate::isa::multiversion! {
    fn score_gradient(probabilities: &[f32], shift: f32, d_scores: &mut [f32]) = score_gradient_body
}

#[inline(always)]
fn score_gradient_body(probabilities: &[f32], shift: f32, d_scores: &mut [f32]) {
    for (d_score, p) in d_scores.iter_mut().zip(probabilities) {
        *d_score = p * (*d_score - shift);
    }
}

#[cfg(test)]
mod tests;
