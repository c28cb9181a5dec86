//! What every trainable model has in common: the micro-batch it learns from, and the contract of one step.
//!
//! What this is not: the passes themselves, which each family under [`crate::models`] writes out.

use synapse_checkpoint::{ModelConfig, ModelFolder};

use crate::{NnError, Parameter};

/// Documents of one micro-batch, laid end to end without padding. Each attends to itself alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// Token ids, `[t]`.
    pub tokens: Vec<u32>,
    /// The target of each position, `[t]`: the token to predict, or `None` where the loss ignores the position.
    pub targets: Vec<Option<u32>>,
    /// Tokens of each document; they sum to `tokens.len()`.
    pub lengths: Vec<usize>,
}

impl MicroBatch {
    /// Adds documents in Hugging Face's form: labels aligned with the ids, −100 where the loss ignores a position.
    /// The label of a document's first token is never predicted.
    pub fn push(&mut self, ids: &[u32], labels: &[i64], lengths: &[u32]) {
        let mut start = 0;
        for &length in lengths {
            let length = length as usize;
            self.tokens.extend_from_slice(&ids[start..start + length]);
            let next = labels[start + 1..start + length]
                .iter()
                .map(|&label| u32::try_from(label).ok());
            self.targets.extend(next);
            self.targets.push(None);
            self.lengths.push(length);
            start += length;
        }
    }

    /// Positions that have a target.
    pub fn num_targets(&self) -> usize {
        self.targets.iter().flatten().count()
    }
}

/// What a step needs besides the micro-batch.
#[derive(Debug, Clone, Copy)]
pub struct StepContext {
    /// Factor on the loss and gradients: one over the targets of the whole accumulation group.
    pub scale: f32,
    /// Key of the dropout masks: seed, optimizer step, micro-batch.
    pub key: [u64; 3],
    /// Activation checkpointing: keep only the layers' inputs and compute the rest again in the backward pass.
    pub recompute: bool,
}

/// A model with trainable parameters: LoRA over frozen weights, or every weight. The caller owns the parameters and
/// gradients, flat f32 buffers in the order of [`TrainableModel::layout`].
pub trait TrainableModel {
    /// The configuration of the whole model.
    fn config(&self) -> &ModelConfig;

    /// The trainable tensors in the order they lie in the flat buffers.
    fn layout(&self) -> &[Parameter];

    /// Initial values: LoRA's as PEFT draws them, or those of a model trained from scratch.
    fn initial(&self, seed: u64) -> Vec<f32>;

    /// The values of a model folder, to continue full training from.
    ///
    /// # Errors
    /// An unreadable tensor.
    fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, NnError> {
        read_parameters(folder, self.layout())
    }

    /// Forward and backward over one micro-batch: adds `context.scale ·` the gradient of the summed loss to
    /// `gradients`, and returns the summed negative log-likelihood in nats (not scaled).
    ///
    /// # Errors
    /// A token outside the vocabulary, or a document longer than the model's positions.
    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<f64, NnError>;

    /// Summed negative log-likelihood and number of targets of each document, without gradients or dropout.
    ///
    /// # Errors
    /// As [`TrainableModel::accumulate`].
    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError>;

    /// Called after every optimizer step, for parameters that no gradient moves, such as a router's selection bias.
    fn post_step(&mut self, parameters: &mut [f32]) {
        let _ = parameters;
    }

    /// Router statistics since the last call, for mixture-of-experts models.
    fn take_router_statistics(&mut self) -> Option<RouterStatistics> {
        None
    }
}

/// A folder's values for a layout of whole tensors.
pub(crate) fn read_parameters(folder: &ModelFolder, layout: &[Parameter]) -> Result<Vec<f32>, NnError> {
    let mut values = Vec::with_capacity(layout.last().map_or(0, |last| last.range.end));
    for parameter in layout {
        values.extend(folder.read_f32(&parameter.name)?);
    }
    Ok(values)
}

/// How the routers of a mixture-of-experts model distributed the tokens of some micro-batches.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterStatistics {
    /// What the routers choose among.
    pub modules: Vec<String>,
    /// Micro-batches since the last call.
    pub micro_batches: usize,
    /// Their tokens.
    pub tokens: u64,
    /// Layer by layer, each the sum over the micro-batches.
    pub layers: Vec<LayerRouterStatistics>,
}

/// How one layer's router distributed tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRouterStatistics {
    /// Load-balancing loss `n · Σ f P` over the balanced choices; 1 where they are used evenly.
    pub balance: f64,
    /// Router z-loss: mean of the squared log-sum-exp of the router's logits.
    pub z: f64,
    /// Tokens routed to each of the choices.
    pub counts: Vec<u64>,
    /// Which of the choices are experts.
    pub experts: std::ops::Range<usize>,
}

impl LayerRouterStatistics {
    /// Experts that no token was routed to.
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

    /// Adds another micro-batch's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.balance += other.balance;
        self.z += other.z;
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
    }
}
