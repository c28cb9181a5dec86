//! Forward and backward of a whole model over one micro-batch. Documents lie end to end, each with states of its own
//! that begin empty. With `recompute` only each layer's input is kept and the rest is computed again.

use crate::{MicroBatch, NnError, Pass};
use synapse_kernels::{
    Accumulate, Shape, cross_entropy,
    gemm::{Left, Product, Right},
    norm,
};

use crate::models::synapse::{
    layer::Descent,
    linear::{Order, Weights},
    model::SynapseModel,
    routing::{Auxiliary, Load},
};

/// Rows of logits held at once.
const CHUNK: usize = 512;

/// What a pass over a micro-batch gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    /// Summed negative log-likelihood of the trained positions, in nats; the auxiliary losses are not in it.
    pub loss: f64,
    /// How each layer used its modules.
    pub layers: Vec<LayerUse>,
}

/// How a layer used its modules over a micro-batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerUse {
    /// `n · Σ f P` over the choices that are balanced; 1 where they are used evenly.
    pub balance: f64,
    /// Mean of the squared log-sum of the router's exponentials.
    pub z: f64,
    /// Tokens sent to each of the choices.
    pub counts: Vec<u64>,
    /// Which of the choices are experts.
    pub experts: std::ops::Range<usize>,
}

impl LayerUse {
    /// Experts that no token was sent to.
    pub fn dead_experts(&self) -> usize {
        self.counts[self.experts.clone()]
            .iter()
            .filter(|&&count| count == 0)
            .count()
    }

    /// Entropy of the experts' loads over that of an even one: 1 where they are even, 0 where one takes all.
    pub fn load_entropy(&self) -> f64 {
        let counts = &self.counts[self.experts.clone()];
        let total: u64 = counts.iter().sum();
        if total == 0 || counts.len() < 2 {
            return 1.0;
        }
        let entropy: f64 = counts
            .iter()
            .filter(|&&count| count > 0)
            .map(|&count| {
                let share = count as f64 / total as f64;
                -share * share.ln()
            })
            .sum();
        entropy / (counts.len() as f64).ln()
    }
}

/// The hidden states of the trained positions, gathered and normed.
struct Trained {
    positions: Vec<usize>,
    targets: Vec<u32>,
    x: Vec<f32>,       // [n, hidden]
    normed: Vec<f32>,  // [n, hidden]
    inverse: Vec<f32>, // [n]
}

impl SynapseModel {
    /// One micro-batch: adds `pass.scale ·` the gradient of the summed loss, and the auxiliary losses' at the same
    /// weight, to `gradients`.
    ///
    /// # Errors
    /// A token outside the vocabulary, or a document longer than the model's positions.
    pub fn accumulate(
        &self,
        values: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        pass: &Pass,
    ) -> Result<Passed, NnError> {
        self.check(batch)?;
        Ok(self.pass(self.weights(values, Order::Fastest, None), gradients, batch, pass))
    }

    /// Forward and backward under these weights: all of them are trained, or the adapter over them.
    pub(crate) fn pass(&self, weights: Weights<'_>, gradients: &mut [f32], batch: &MicroBatch, pass: &Pass) -> Passed {
        // a mean over the batch's tokens weighs as much as the trained tokens that the batch contributes
        let share = pass.scale * batch.trained() as f32 / self.layers.len() as f32;
        let descent = Descent {
            weights,
            lengths: &batch.lengths,
            auxiliary: Auxiliary {
                balance: self.modules.balance_loss as f32 * share,
                z: self.modules.router_z_loss as f32 * share,
            },
        };
        let mut x = self.embed(weights.values, &batch.tokens); // [t, hidden]
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut states = Vec::new();
        for layer in &self.layers {
            let (y, kept) = layer.forward(weights, &x, &batch.lengths, None);
            if !pass.recompute {
                states.push(kept);
            }
            inputs.push(std::mem::replace(&mut x, y));
        }
        let (loss, mut dx) = self.loss_gradient(weights, batch, &x, pass.scale, gradients);
        let mut uses = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter().rev() {
            let input = inputs.pop().unwrap_or_default();
            let mut kept = states
                .pop()
                .unwrap_or_else(|| layer.forward(weights, &input, &batch.lengths, None).1);
            let (d, load) = layer.backward(descent, &input, &mut kept, dx, gradients);
            dx = d;
            uses.push(used(load, layer.expert_choices()));
        }
        uses.reverse();
        if weights.adapted.is_none() {
            self.embedding_gradient(batch, &dx, gradients);
        }
        Passed { loss, layers: uses }
    }

    /// Summed negative log-likelihood and trained positions of each document, without gradients.
    ///
    /// # Errors
    /// As [`SynapseModel::accumulate`].
    pub fn losses(&self, values: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        self.losses_under(self.weights(values, Order::Fastest, None), batch)
    }

    pub(crate) fn losses_under(&self, weights: Weights<'_>, batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        self.check(batch)?;
        let mut x = self.embed(weights.values, &batch.tokens);
        for layer in &self.layers {
            x = layer.forward(weights, &x, &batch.lengths, None).0;
        }
        let trained = self.gather(weights, batch, &x);
        let mut losses = vec![0.0; trained.targets.len()];
        for chunk in chunks(trained.targets.len()) {
            let mut logits = self.logits(weights, &trained, chunk.clone());
            let targets = &trained.targets[chunk.clone()];
            cross_entropy::loss(&mut logits, self.config.vocab_size, targets, &mut losses[chunk]);
        }
        let mut sums = vec![(0.0, 0); batch.lengths.len()];
        let mut document = 0;
        let mut end = batch.lengths.first().copied().unwrap_or(0);
        for (&position, &loss) in trained.positions.iter().zip(&losses) {
            while position >= end {
                document += 1;
                end += batch.lengths[document];
            }
            sums[document].0 += f64::from(loss);
            sums[document].1 += 1;
        }
        Ok(sums)
    }

    /// After an optimizer step: moves the routers' selection towards what its micro-batches used too little, in a model
    /// with a `selection_bias_rate`.
    pub fn adjust(&self, values: &mut [f32], passes: &[Vec<LayerUse>]) {
        for (index, layer) in self.layers.iter().enumerate() {
            let mut counts = vec![0; layer.choices()];
            for pass in passes {
                counts
                    .iter_mut()
                    .zip(&pass[index].counts)
                    .for_each(|(sum, count)| *sum += count);
            }
            layer.adjust(values, &counts, self.modules.selection_bias_rate as f32);
        }
    }

    fn gather(&self, weights: Weights<'_>, batch: &MicroBatch, x: &[f32]) -> Trained {
        let hidden = self.config.hidden_size;
        let (positions, targets): (Vec<usize>, Vec<u32>) = batch
            .targets
            .iter()
            .enumerate()
            .filter_map(|(position, target)| target.map(|target| (position, target)))
            .unzip();
        let rows: Vec<f32> = positions
            .iter()
            .flat_map(|&position| &x[position * hidden..(position + 1) * hidden])
            .copied()
            .collect();
        let (mut normed, mut inverse) = (vec![0.0; rows.len()], vec![0.0; positions.len()]);
        let epsilon = self.config.rms_norm_eps as f32;
        norm::forward(&rows, weights.of(&self.norm), epsilon, &mut normed, &mut inverse);
        Trained {
            positions,
            targets,
            x: rows,
            normed,
            inverse,
        }
    }

    /// `[chunk, vocab]`
    fn logits(&self, weights: Weights<'_>, trained: &Trained, chunk: std::ops::Range<usize>) -> Vec<f32> {
        let hidden = self.config.hidden_size;
        self.head
            .forward(weights, &trained.normed[chunk.start * hidden..chunk.end * hidden])
    }

    /// The summed loss, and the gradient of `scale ·` it at the last layer's output.
    fn loss_gradient(
        &self,
        weights: Weights<'_>,
        batch: &MicroBatch,
        x: &[f32],
        scale: f32,
        gradients: &mut [f32],
    ) -> (f64, Vec<f32>) {
        let (hidden, vocab) = (self.config.hidden_size, self.config.vocab_size);
        let trained = self.gather(weights, batch, x);
        let count = trained.targets.len();
        let (mut losses, mut d_normed) = (vec![0.0; count], vec![0.0; count * hidden]);
        for chunk in chunks(count) {
            let mut logits = self.logits(weights, &trained, chunk.clone());
            let targets = &trained.targets[chunk.clone()];
            cross_entropy::loss_and_gradient(&mut logits, vocab, targets, &mut losses[chunk.clone()]);
            let rows = chunk.start * hidden..chunk.end * hidden;
            let product = |(m, n, k): (usize, usize, usize), left, right, accumulate| Product {
                shape: Shape { m, n, k },
                left,
                right,
                scale,
                accumulate,
                precision: self.precision,
            };
            let head = Right::rows(weights.of(&self.head.weight()), hidden);
            product(
                (chunk.len(), hidden, vocab),
                Left::rows(&logits, vocab),
                head,
                Accumulate::Overwrite,
            )
            .compute(&mut d_normed[rows.clone()], hidden);
            if weights.adapted.is_some() {
                continue;
            }
            let normed = Right::rows(&trained.normed[rows], hidden);
            product(
                (vocab, hidden, chunk.len()),
                Left::transposed(&logits, vocab),
                normed,
                Accumulate::Add,
            )
            .compute(&mut gradients[self.head.weight()], hidden);
        }
        norm::backward_weight(
            &trained.x,
            &trained.inverse,
            &d_normed,
            &mut gradients[self.norm.clone()],
        );
        let mut d_rows = vec![0.0; count * hidden];
        norm::backward(
            &trained.x,
            weights.of(&self.norm),
            &trained.inverse,
            &d_normed,
            &mut d_rows,
        );
        let mut dx = vec![0.0; x.len()];
        for (row, &position) in d_rows.chunks_exact(hidden).zip(&trained.positions) {
            dx[position * hidden..(position + 1) * hidden].copy_from_slice(row);
        }
        (losses.iter().map(|&loss| f64::from(loss)).sum(), dx)
    }

    fn embedding_gradient(&self, batch: &MicroBatch, dx: &[f32], gradients: &mut [f32]) {
        let hidden = self.config.hidden_size;
        let gradient = &mut gradients[self.embedding.clone()];
        for (&token, row) in batch.tokens.iter().zip(dx.chunks_exact(hidden)) {
            let start = token as usize * hidden;
            for (target, value) in gradient[start..start + hidden].iter_mut().zip(row) {
                *target += value;
            }
        }
    }
}

fn used(load: Load, experts: std::ops::Range<usize>) -> LayerUse {
    LayerUse {
        balance: load.balance,
        z: load.z,
        counts: load.counts,
        experts,
    }
}

fn chunks(count: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..count)
        .step_by(CHUNK)
        .map(move |first| first..(first + CHUNK).min(count))
}
