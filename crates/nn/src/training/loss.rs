//! Final norm, head and cross-entropy, fused over chunks of trained positions: the logits of a chunk are
//! turned into their gradient in place and multiplied back, so `[t, vocab]` never exists.

use std::ops::Range;

use synapse_kernels::{
    Accumulate, Shape, cross_entropy,
    gemm::{Left, Product, Right},
    norm,
};

use super::{MicroBatch, TrainableModel};
use crate::pool::{Activation, Buffer, Pool};

/// Rows of logits held at once. The head is packed once a chunk in each direction, which costs as much as some
/// twenty rows.
pub(super) fn chunk_rows(vocab: usize) -> usize {
    /// 256 rows of a 49,152-word vocabulary, 48 MiB.
    const ELEMENTS: usize = 256 * 49_152;
    (ELEMENTS / vocab).max(128)
}

/// Where gradients go.
pub(super) struct Gradient<'a> {
    /// `[t, hidden]`, zero on entry.
    pub(super) dx: &'a mut [f32],
    /// The flat buffer.
    pub(super) gradients: &'a mut [f32],
}

/// The hidden states of the trained positions, gathered and normed.
struct Trained {
    positions: Vec<usize>,
    targets: Vec<u32>,
    x: Buffer<f32>,       // [n, hidden]
    normed: Activation,   // [n, hidden]
    inverse: Buffer<f32>, // [n]
}

impl Trained {
    fn release(self, pool: &mut Pool) {
        pool.release(self.normed);
        [self.x, self.inverse].into_iter().for_each(|buffer| pool.give(buffer));
    }
}

impl TrainableModel {
    fn gather(&self, parameters: &[f32], batch: &MicroBatch, x: &[f32], pool: &mut Pool) -> Trained {
        let hidden = self.decoder.config.hidden_size;
        let (positions, targets): (Vec<usize>, Vec<u32>) = batch
            .targets
            .iter()
            .enumerate()
            .filter_map(|(position, target)| target.map(|target| (position, target)))
            .unzip();
        let (mut rows, mut normed, mut inverse) = (
            pool.take(positions.len() * hidden),
            pool.activation(positions.len() * hidden, self.decoder.precision),
            pool.take(positions.len()),
        );
        for (row, &position) in rows.chunks_exact_mut(hidden).zip(&positions) {
            row.copy_from_slice(&x[position * hidden..(position + 1) * hidden]);
        }
        norm::forward(
            &rows,
            self.decoder.norm.vector(parameters),
            self.decoder.config.rms_norm_eps as f32,
            normed.target(),
            &mut inverse,
        );
        Trained {
            positions,
            targets,
            x: rows,
            normed,
            inverse,
        }
    }

    fn chunks(&self, count: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let size = chunk_rows(self.decoder.config.vocab_size);
        (0..count)
            .step_by(size)
            .map(move |first| first..(first + size).min(count))
    }

    /// `logits [n, vocab]` of gathered rows.
    fn logits(&self, parameters: &[f32], trained: &Trained, chunk: &Range<usize>, logits: &mut [f32]) {
        let config = &self.decoder.config;
        let normed = trained.normed.matrix().tail(chunk.start * config.hidden_size);
        let shape = Shape {
            m: chunk.len(),
            n: config.vocab_size,
            k: config.hidden_size,
        };
        synapse_kernels::gemm::linear(
            normed,
            self.decoder.head().matrix(parameters),
            logits,
            shape,
            self.decoder.precision,
        );
    }

    /// Summed loss; the gradient of `scale · sum` goes to `dx`, and to norm and head where those are trained.
    pub(super) fn loss_gradient(
        &self,
        parameters: &[f32],
        batch: &MicroBatch,
        x: &[f32],
        scale: f32,
        out: &mut Gradient<'_>,
        pool: &mut Pool,
    ) -> f64 {
        let (hidden, vocab) = (self.decoder.config.hidden_size, self.decoder.config.vocab_size);
        let trained = self.gather(parameters, batch, x, pool);
        let count = trained.targets.len();
        let (mut losses, mut d_normed) = (pool.take(count), pool.take(count * hidden));
        for chunk in self.chunks(count) {
            let mut logits = pool.take(chunk.len() * vocab);
            let rows = chunk.start * hidden..chunk.end * hidden;
            self.logits(parameters, &trained, &chunk, &mut logits);
            cross_entropy::loss_and_gradient(
                &mut logits,
                vocab,
                &trained.targets[chunk.clone()],
                &mut losses[chunk.clone()],
            );
            let product = |shape, left, right, accumulate| Product {
                shape,
                left,
                right,
                scale,
                accumulate,
                precision: self.decoder.precision,
            };
            // d(normed) = scale · P · E
            let head = Right::rows(self.decoder.head().matrix(parameters), hidden);
            let shape = Shape {
                m: chunk.len(),
                n: hidden,
                k: vocab,
            };
            product(shape, Left::rows(&logits, vocab), head, Accumulate::Overwrite)
                .compute(&mut d_normed[rows.clone()], hidden);
            if let Some(range) = self.decoder.head().range() {
                // dE += scale · Pᵀ · normed
                let shape = Shape {
                    m: vocab,
                    n: hidden,
                    k: chunk.len(),
                };
                let right = Right::rows(trained.normed.matrix().tail(rows.start), hidden);
                product(shape, Left::transposed(&logits, vocab), right, Accumulate::Add)
                    .compute(&mut out.gradients[range], hidden);
            }
            pool.give(logits);
        }
        if let Some(range) = self.decoder.norm.range() {
            norm::backward_weight(&trained.x, &trained.inverse, &d_normed, &mut out.gradients[range]);
        }
        let mut d_rows = pool.zeros(count * hidden);
        norm::backward(
            &trained.x,
            self.decoder.norm.vector(parameters),
            &trained.inverse,
            &d_normed,
            &mut d_rows,
        );
        for (row, &position) in d_rows.chunks_exact(hidden).zip(&trained.positions) {
            out.dx[position * hidden..(position + 1) * hidden].copy_from_slice(row);
        }
        let sum = losses[..count].iter().map(|&loss| f64::from(loss)).sum();
        trained.release(pool);
        [losses, d_normed, d_rows]
            .into_iter()
            .for_each(|buffer| pool.give(buffer));
        sum
    }

    /// Summed loss and trained positions of each document.
    pub(super) fn document_losses(
        &self,
        parameters: &[f32],
        batch: &MicroBatch,
        x: &[f32],
        pool: &mut Pool,
    ) -> Vec<(f64, usize)> {
        let vocab = self.decoder.config.vocab_size;
        let trained = self.gather(parameters, batch, x, pool);
        let mut losses = pool.take(trained.targets.len());
        for chunk in self.chunks(trained.targets.len()) {
            let mut logits = pool.take(chunk.len() * vocab);
            self.logits(parameters, &trained, &chunk, &mut logits);
            cross_entropy::loss(&mut logits, vocab, &trained.targets[chunk.clone()], &mut losses[chunk]);
            pool.give(logits);
        }
        let mut sums = vec![(0.0, 0); batch.lengths.len()];
        let ends: Vec<usize> = batch
            .lengths
            .iter()
            .scan(0, |end, &length| {
                *end += length;
                Some(*end)
            })
            .collect();
        for (&position, &loss) in trained.positions.iter().zip(losses.iter()) {
            let document = ends.partition_point(|&end| end <= position);
            sums[document].0 += f64::from(loss);
            sums[document].1 += 1;
        }
        trained.release(pool);
        pool.give(losses);
        sums
    }
}
