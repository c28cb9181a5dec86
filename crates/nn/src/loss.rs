//! The LM-head loss: final norm, output head and cross-entropy, fused over chunks of the positions that have a target.
//!
//! The logits of a chunk are turned into their gradient in place and multiplied back, so `[t, vocab]` never exists
//! (as in Liger's fused linear cross-entropy).

use std::ops::Range;

use synapse_kernels::{
    Accumulate, Matrix, Precision, Shape, cross_entropy,
    gemm::{Left, Product, Right, Sum, Term},
    norm,
};

use crate::{
    MicroBatch,
    linear::ReductionOrder,
    pool::{Activation, Buffer, Pool},
};

/// The final norm and the output head of a model, and how the loss goes over them.
#[derive(Debug, Clone)]
pub(crate) struct LmHead<'a> {
    /// `[hidden]`
    pub(crate) norm: &'a [f32],
    /// Where the norm's gradient goes, if it is trained.
    pub(crate) norm_gradient: Option<Range<usize>>,
    /// `[vocab, hidden]`
    pub(crate) weight: Matrix<'a>,
    /// Where the weight's gradient goes, if it is trained.
    pub(crate) weight_gradient: Option<Range<usize>>,
    pub(crate) hidden: usize,
    pub(crate) vocab: usize,
    /// Added to the norm's mean square.
    pub(crate) epsilon: f32,
    pub(crate) precision: Precision,
    /// Precision that the normed rows are stored in. Products round f32 rows only where the machine multiplies bf16, and
    /// not for few rows, so this decides bits.
    pub(crate) storage: Precision,
    pub(crate) order: ReductionOrder,
    /// Rows of logits held at once.
    pub(crate) chunk_rows: usize,
}

/// Where gradients go.
pub(crate) struct LossGradients<'a> {
    /// `[t, hidden]`, zero on entry.
    pub(crate) dx: &'a mut [f32],
    /// The flat buffer.
    pub(crate) gradients: &'a mut [f32],
}

/// The hidden states of the positions that have a target, gathered and normed.
struct TargetRows {
    positions: Vec<usize>,
    targets: Vec<u32>,
    x: Buffer<f32>,       // [n, hidden]
    normed: Activation,   // [n, hidden]
    inverse: Buffer<f32>, // [n]
}

impl TargetRows {
    fn release(self, pool: &mut Pool) {
        pool.release(self.normed);
        [self.x, self.inverse].into_iter().for_each(|buffer| pool.give(buffer));
    }
}

impl LmHead<'_> {
    fn gather(&self, batch: &MicroBatch, x: &[f32], pool: &mut Pool) -> TargetRows {
        let hidden = self.hidden;
        let (positions, targets): (Vec<usize>, Vec<u32>) = batch
            .targets
            .iter()
            .enumerate()
            .filter_map(|(position, target)| target.map(|target| (position, target)))
            .unzip();
        let (mut rows, mut normed, mut inverse) = (
            pool.take(positions.len() * hidden),
            pool.activation(positions.len() * hidden, self.storage),
            pool.take(positions.len()),
        );
        for (row, &position) in rows.chunks_exact_mut(hidden).zip(&positions) {
            row.copy_from_slice(&x[position * hidden..(position + 1) * hidden]);
        }
        norm::forward(&rows, self.norm, self.epsilon, normed.target(), &mut inverse);
        TargetRows {
            positions,
            targets,
            x: rows,
            normed,
            inverse,
        }
    }

    fn chunks(&self, count: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let size = self.chunk_rows;
        (0..count)
            .step_by(size)
            .map(move |first| first..(first + size).min(count))
    }

    /// `logits [n, vocab]` of gathered rows.
    fn logits(&self, rows: &TargetRows, chunk: &Range<usize>, logits: &mut [f32]) {
        let term = Term {
            left: Left::rows(rows.normed.matrix().tail(chunk.start * self.hidden), self.hidden),
            right: Right::transposed(self.weight, self.hidden),
            k: self.hidden,
            scale: 1.0,
        };
        let sum = Sum {
            m: chunk.len(),
            n: self.vocab,
            terms: &[term],
            accumulate: Accumulate::Overwrite,
            precision: self.precision,
        };
        self.order.compute(&sum, logits);
    }

    /// Summed loss; the gradient of `scale · sum` goes to `dx`, and to norm and head where those are trained.
    pub(crate) fn loss_gradient(
        &self,
        batch: &MicroBatch,
        x: &[f32],
        scale: f32,
        out: &mut LossGradients<'_>,
        pool: &mut Pool,
    ) -> f64 {
        let (hidden, vocab) = (self.hidden, self.vocab);
        let rows = self.gather(batch, x, pool);
        let count = rows.targets.len();
        let (mut losses, mut d_normed) = (pool.take(count), pool.take(count * hidden));
        for chunk in self.chunks(count) {
            let mut logits = pool.take(chunk.len() * vocab);
            let range = chunk.start * hidden..chunk.end * hidden;
            self.logits(&rows, &chunk, &mut logits);
            cross_entropy::loss_and_gradient(
                &mut logits,
                vocab,
                &rows.targets[chunk.clone()],
                &mut losses[chunk.clone()],
            );
            let product = |(m, n, k): (usize, usize, usize), left, right, accumulate| Product {
                shape: Shape { m, n, k },
                left,
                right,
                scale,
                accumulate,
                precision: self.precision,
            };
            // d(normed) = scale · P · E
            let head = Right::rows(self.weight, hidden);
            let left = Left::rows(&logits, vocab);
            product((chunk.len(), hidden, vocab), left, head, Accumulate::Overwrite)
                .compute(&mut d_normed[range.clone()], hidden);
            if let Some(gradient) = self.weight_gradient.clone() {
                // dE += scale · Pᵀ · normed
                let left = Left::transposed(&logits, vocab);
                let right = Right::rows(rows.normed.matrix().tail(range.start), hidden);
                product((vocab, hidden, chunk.len()), left, right, Accumulate::Add)
                    .compute(&mut out.gradients[gradient], hidden);
            }
            pool.give(logits);
        }
        if let Some(gradient) = self.norm_gradient.clone() {
            norm::backward_weight(&rows.x, &rows.inverse, &d_normed, &mut out.gradients[gradient]);
        }
        let mut d_rows = pool.zeros(count * hidden);
        norm::backward(&rows.x, self.norm, &rows.inverse, &d_normed, &mut d_rows);
        for (row, &position) in d_rows.chunks_exact(hidden).zip(&rows.positions) {
            out.dx[position * hidden..(position + 1) * hidden].copy_from_slice(row);
        }
        let sum = losses[..count].iter().map(|&loss| f64::from(loss)).sum();
        rows.release(pool);
        [losses, d_normed, d_rows]
            .into_iter()
            .for_each(|buffer| pool.give(buffer));
        sum
    }

    /// Summed loss and number of targets of each document.
    pub(crate) fn document_losses(&self, batch: &MicroBatch, x: &[f32], pool: &mut Pool) -> Vec<(f64, usize)> {
        let rows = self.gather(batch, x, pool);
        let mut losses = pool.take(rows.targets.len());
        for chunk in self.chunks(rows.targets.len()) {
            let mut logits = pool.take(chunk.len() * self.vocab);
            self.logits(&rows, &chunk, &mut logits);
            let targets = &rows.targets[chunk.clone()];
            cross_entropy::loss(&mut logits, self.vocab, targets, &mut losses[chunk]);
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
        for (&position, &loss) in rows.positions.iter().zip(losses.iter()) {
            let document = ends.partition_point(|&end| end <= position);
            sums[document].0 += f64::from(loss);
            sums[document].1 += 1;
        }
        rows.release(pool);
        pool.give(losses);
        sums
    }
}

/// Adds the gradient `dx [t, hidden]` of looked-up rows to that of the embedding, `[vocab, hidden]`.
pub(crate) fn embedding_gradient(tokens: &[u32], dx: &[f32], hidden: usize, gradient: &mut [f32]) {
    for (&token, row) in tokens.iter().zip(dx.chunks_exact(hidden)) {
        let start = token as usize * hidden;
        for (target, value) in gradient[start..start + hidden].iter_mut().zip(row) {
            *target += value;
        }
    }
}
