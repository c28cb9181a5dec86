//! Attention over a key/value cache, for serving. A token's output depends only on its own position and phase.
//!
//! Prefill cuts queries at absolute positions and keys in blocks of one length; decoding has a kernel of its own. So
//! neither chunked prefill, nor a cached prefix, nor the other sequences of a batch change a bit. The forward pass of
//! training is in the parent module.

use std::ops::Range;

use super::{Accumulate, Heads, Left, Product, Right, SCRATCH, Scratch, Shape, TILE, grow};
#[cfg(simd_x86)]
use crate::math::dot_avx2;
use crate::{
    cross_entropy::softmax,
    gemm::{NARROW_DEPTH, Sum, Term},
    math::dot,
    parallel::{SharedMut, parallel_for, threads},
};

/// Keys that one product sums over: at most one packed block of any level, so that a sum is never split elsewhere.
const KEYS: usize = NARROW_DEPTH;

/// Which phase of generation a sequence's new tokens belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Tokens of the prompt, processed many at a time.
    Prefill,
    /// Tokens that the model generated, processed one at a time.
    Decode,
}

/// One sequence's new queries and its cache, which already holds their keys and values.
#[derive(Debug, Clone, Copy)]
pub struct CachedSpan<'a> {
    /// Rotated queries, `[count, queries * dim]`.
    pub q: &'a [f32],
    /// Rotated keys, `[past + count, keys * dim]`.
    pub k: &'a [f32],
    /// Values, `[past + count, keys * dim]`.
    pub v: &'a [f32],
    /// New positions.
    pub count: usize,
    /// Older positions.
    pub past: usize,
}

/// Attention of several sequences whose new tokens are in one phase; `out [Σ count, queries * dim]`, one after another.
pub fn forward_cached(heads: Heads, phase: Phase, spans: &[CachedSpan<'_>], out: &mut [f32]) {
    let mut next = 0;
    let starts: Vec<usize> = spans
        .iter()
        .map(|span| {
            let start = next;
            next += span.count;
            start
        })
        .collect();
    assert!(
        out.len() >= next * heads.query_width(),
        "the output of attention is too short"
    );
    let out = SharedMut::new(out);
    // few key heads do not divide evenly among threads: then one query head per task; otherwise keys are read once
    let parts = match phase {
        Phase::Decode if spans.len() * heads.keys < 4 * threads() => heads.group(),
        _ => 1,
    };
    let share = heads.group() / parts;
    let task = |task: usize| {
        let (index, part) = (task / (heads.keys * parts), task % (heads.keys * parts));
        let job = Job {
            heads,
            span: &spans[index],
            group: part / parts,
            start: starts[index],
            out,
        };
        let first = part * share;
        SCRATCH.with_borrow_mut(|scratch| match phase {
            Phase::Prefill => job.prefill(scratch),
            Phase::Decode => (0..job.span.count).for_each(|row| job.decode(row, first..first + share, scratch)),
        });
    };
    let tasks = spans.len() * heads.keys * parts;
    // waking threads costs more than a short cache
    let work: usize = spans.iter().map(|span| span.count * (span.past + span.count)).sum();
    if work * heads.query_width() < 1 << 15 {
        (0..tasks).for_each(task);
    } else {
        parallel_for(tasks, task);
    }
}

/// One key/value head of one sequence.
struct Job<'a> {
    heads: Heads,
    span: &'a CachedSpan<'a>,
    group: usize,
    /// The sequence's first row of the output.
    start: usize,
    out: SharedMut<'a>,
}

impl Job<'_> {
    fn prefill(&self, scratch: &mut Scratch) {
        let Self { heads, span, .. } = *self;
        for head in self.group * heads.group()..(self.group + 1) * heads.group() {
            let mut first = 0;
            while first < span.count {
                let rows = (TILE - (span.past + first) % TILE).min(span.count - first);
                self.tile((head, first, rows), scratch);
                for row in 0..rows {
                    self.store(first + row, head, &scratch.tile[row * heads.dim..(row + 1) * heads.dim]);
                }
                first += rows;
            }
        }
    }

    /// Stores neighboring heads of one row.
    fn store(&self, row: usize, head: usize, values: &[f32]) {
        let place = (self.start + row) * self.heads.query_width() + head * self.heads.dim;
        // SAFETY: one task owns a head's columns of a sequence, and `forward_cached` checked the length.
        unsafe { self.out.slice(place, values.len()) }.copy_from_slice(values);
    }

    /// Query rows `first..first + rows` of one head into the scratch's tile `[rows, dim]`.
    fn tile(&self, (head, first, rows): (usize, usize, usize), scratch: &mut Scratch) {
        let Self { heads, span, group, .. } = *self;
        let keys = span.past + first + rows;
        grow(&mut scratch.scores, rows * keys);
        let scores = Term {
            left: Left::rows(
                &span.q[first * heads.query_width() + head * heads.dim..],
                heads.query_width(),
            ),
            right: Right::transposed(&span.k[group * heads.dim..], heads.key_width()),
            k: heads.dim,
            scale: heads.scale(),
        };
        Sum {
            m: rows,
            n: keys,
            terms: &[scores],
            accumulate: Accumulate::Overwrite,
            precision: heads.precision,
        }
        .compute_panels_serial(&mut scratch.scores, keys);
        for row in 0..rows {
            let seen = span.past + first + row + 1;
            let (visible, hidden) = scratch.scores[row * keys..(row + 1) * keys].split_at_mut(seen);
            softmax(visible);
            hidden.fill(0.0);
        }
        grow(&mut scratch.tile, rows * heads.dim);
        for block in (0..keys).step_by(KEYS) {
            Product {
                shape: Shape {
                    m: rows,
                    n: heads.dim,
                    k: KEYS.min(keys - block),
                },
                left: Left::rows(&scratch.scores[block..], keys),
                right: Right::rows(
                    &span.v[block * heads.key_width() + group * heads.dim..],
                    heads.key_width(),
                ),
                scale: 1.0,
                accumulate: if block == 0 {
                    Accumulate::Overwrite
                } else {
                    Accumulate::Add
                },
                precision: heads.precision,
            }
            .compute_serial(&mut scratch.tile, heads.dim);
        }
    }

    /// One row of some query heads that share the key head: keys and values are read once.
    fn decode(&self, row: usize, queries: Range<usize>, scratch: &mut Scratch) {
        let Self { heads, span, group, .. } = *self;
        let seen = span.past + row + 1;
        let (first, count) = (queries.start, queries.len());
        let q = &span.q[row * heads.query_width() + first * heads.dim..][..count * heads.dim];
        grow(&mut scratch.scores, count * seen);
        grow(&mut scratch.tile, q.len());
        let weights = &mut scratch.scores[..count * seen];
        let cache = Cache {
            dim: heads.dim,
            stride: heads.key_width(),
        };
        cache_scores(cache, (q, heads.scale()), &span.k[group * heads.dim..], weights);
        weights.chunks_exact_mut(seen).for_each(|row| {
            softmax(row);
        });
        let average = &mut scratch.tile[..q.len()];
        average.fill(0.0);
        cache_average(cache, weights, &span.v[group * heads.dim..], average);
        self.store(row, first, average);
    }
}

/// How one head's rows lie in a cache.
#[derive(Clone, Copy)]
struct Cache {
    dim: usize,
    stride: usize,
}

/// `scores [heads, seen] = scale · q [heads, dim] · Kᵀ`
fn cache_scores(cache: Cache, query: (&[f32], f32), keys: &[f32], scores: &mut [f32]) {
    #[cfg(simd_x86)]
    if crate::Isa::current() == crate::Isa::Avx2 {
        // SAFETY: this machine has AVX2, as detected.
        return unsafe { cache_scores_avx2(cache, query, keys, scores) };
    }
    cache_scores_plain(cache, query, keys, scores);
}

crate::isa::multiversion! {
    fn cache_scores_plain(cache: Cache, query: (&[f32], f32), keys: &[f32], scores: &mut [f32]) = cache_scores_body
}

#[inline(always)]
fn cache_scores_body(cache: Cache, query: (&[f32], f32), keys: &[f32], scores: &mut [f32]) {
    cache_scores_by(cache, query, keys, scores, dot);
}

/// Same as [`cache_scores_body`] to the bit; the lanes of a sum never leave registers.
///
/// # Safety
/// AVX2.
#[cfg(simd_x86)]
#[target_feature(enable = "avx2")]
unsafe fn cache_scores_avx2(cache: Cache, query: (&[f32], f32), keys: &[f32], scores: &mut [f32]) {
    // SAFETY: guaranteed by the caller.
    cache_scores_by(cache, query, keys, scores, |q, key| unsafe { dot_avx2(q, key) });
}

#[inline(always)]
fn cache_scores_by(
    cache: Cache,
    (q, scale): (&[f32], f32),
    keys: &[f32],
    scores: &mut [f32],
    dot: impl Fn(&[f32], &[f32]) -> f32,
) {
    let heads = q.len() / cache.dim;
    let seen = scores.len() / heads;
    for at in 0..seen {
        let key = &keys[at * cache.stride..][..cache.dim];
        for (head, q) in q.chunks_exact(cache.dim).enumerate() {
            scores[head * seen + at] = scale * dot(q, key);
        }
    }
}

crate::isa::multiversion! {
    /// `out [heads, dim] += weights [heads, seen] · V`, positions in order.
    fn cache_average(cache: Cache, weights: &[f32], values: &[f32], out: &mut [f32]) = cache_average_body
}

#[inline(always)]
fn cache_average_body(cache: Cache, weights: &[f32], values: &[f32], out: &mut [f32]) {
    let seen = weights.len() / (out.len() / cache.dim);
    for at in 0..seen {
        let value = &values[at * cache.stride..][..cache.dim];
        for (head, out) in out.chunks_exact_mut(cache.dim).enumerate() {
            let weight = weights[head * seen + at];
            for (target, value) in out.iter_mut().zip(value) {
                *target += weight * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Matrix, Precision,
        attention::{Span, forward},
        random::Stream,
    };

    fn values(seed: u64, count: usize) -> Vec<f32> {
        let stream = Stream::new(&[seed]);
        (0..count as u64).map(|i| stream.normal(i)).collect()
    }

    fn heads(precision: Precision) -> Heads {
        Heads {
            queries: 6,
            keys: 2,
            dim: 16,
            precision,
        }
    }

    /// Reads `tokens` tokens in chunks that end at `ends`.
    fn read(heads: Heads, phase: Phase, (q, k, v): (&[f32], &[f32], &[f32]), ends: &[usize]) -> Vec<f32> {
        let mut out = Vec::new();
        let mut past = 0;
        for &end in ends {
            let span = CachedSpan {
                q: &q[past * heads.query_width()..end * heads.query_width()],
                k: &k[..end * heads.key_width()],
                v: &v[..end * heads.key_width()],
                count: end - past,
                past,
            };
            let mut part = vec![f32::NAN; (end - past) * heads.query_width()];
            forward_cached(heads, phase, &[span], &mut part);
            out.extend(part);
            past = end;
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn neither_chunks_nor_neighbors_change_a_bit(cuts in prop::collection::vec(1usize..520, 0..4), decode: bool, halves: bool) {
            const TOKENS: usize = 520;
            let heads = heads(if halves { Precision::Bf16 } else { Precision::F32 });
            let phase = if decode { Phase::Decode } else { Phase::Prefill };
            let (q, k, v) = (values(1, TOKENS * heads.query_width()), values(2, TOKENS * heads.key_width()), values(3, TOKENS * heads.key_width()));
            let whole = read(heads, phase, (&q, &k, &v), &[TOKENS]);
            let mut ends = cuts;
            ends.push(TOKENS);
            ends.sort_unstable();
            ends.dedup();
            prop_assert!(whole == read(heads, phase, (&q, &k, &v), &ends), "cut at {ends:?}");
            // a neighbor before it
            let other = CachedSpan { q: &q[..heads.query_width()], k: &k[..heads.key_width()], v: &v[..heads.key_width()], count: 1, past: 0 };
            let this = CachedSpan { q: &q, k: &k, v: &v, count: TOKENS, past: 0 };
            let mut both = vec![f32::NAN; (TOKENS + 1) * heads.query_width()];
            forward_cached(heads, phase, &[other, this], &mut both);
            prop_assert!(both[heads.query_width()..] == whole);
        }
    }

    #[test]
    fn both_phases_agree_with_the_training_pass() {
        let heads = heads(Precision::F32);
        let tokens = 450;
        let (q, k, v) = (
            values(4, tokens * heads.query_width()),
            values(5, tokens * heads.key_width()),
            values(6, tokens * heads.key_width()),
        );
        let span = Span {
            q: Matrix::F32(&q),
            k: Matrix::F32(&k),
            v: Matrix::F32(&v),
            count: tokens,
        };
        let mut expected = vec![f32::NAN; q.len()];
        forward(
            heads,
            &[span],
            expected.as_mut_slice(),
            &mut vec![0.0; tokens * heads.queries],
        );
        for phase in [Phase::Prefill, Phase::Decode] {
            for (ours, theirs) in read(heads, phase, (&q, &k, &v), &[tokens]).iter().zip(&expected) {
                // averages of values of order 1 over 450 rounded weights
                assert!((ours - theirs).abs() < 1e-5, "{phase:?}: {ours} instead of {theirs}");
            }
        }
    }
}
