//! Forward and backward of a whole model over one micro-batch. Documents lie end to end, each with states of its own
//! that start empty. With `recompute` only the layers' inputs are saved and the rest is computed again.

use std::ops::Range;

use synapse_kernels::Precision;

use crate::{
    LayerRouterStatistics, MicroBatch, NnError, StepContext,
    linear::ReductionOrder,
    loss::{LmHead, LossGradients, embedding_gradient},
    pool::Pool,
};

use super::{
    layer::BackwardContext,
    linear::Weights,
    model::SynapseModel,
    routing::{AuxiliaryScales, RouterLoad},
};

/// Rows of logits held at once.
pub(super) const LOGIT_ROWS: usize = 512;

/// What a step over a micro-batch gives.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutput {
    /// Summed negative log-likelihood of the targets, in nats, without the auxiliary losses.
    pub loss: f64,
    /// Router statistics of each layer.
    pub layers: Vec<LayerRouterStatistics>,
}

impl SynapseModel {
    /// One micro-batch: adds `context.scale ·` the gradient of the summed loss, and the auxiliary losses' at the same
    /// weight, to `gradients`.
    ///
    /// # Errors
    /// A token outside the vocabulary, or a document longer than the model's positions.
    pub fn accumulate(
        &self,
        values: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<StepOutput, NnError> {
        self.check(batch)?;
        Ok(self.step(
            self.weights(values, ReductionOrder::Fastest, None),
            gradients,
            batch,
            context,
        ))
    }

    /// Forward and backward under these weights: all of them are trained, or the adapter over them.
    pub(crate) fn step(
        &self,
        weights: Weights<'_>,
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> StepOutput {
        // a mean over the batch's tokens weighs as much as the targets that the batch contributes
        let share = context.scale * batch.num_targets() as f32 / self.layers.len() as f32;
        let backward = BackwardContext {
            weights,
            lengths: &batch.lengths,
            auxiliary: AuxiliaryScales {
                balance: self.modules.balance_loss as f32 * share,
                z: self.modules.router_z_loss as f32 * share,
            },
        };
        let mut x = self.embed(weights.values, &batch.tokens); // [t, hidden]
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut activations = Vec::new();
        for layer in &self.layers {
            let (y, saved) = layer.forward(weights, &x, &batch.lengths, None);
            if !context.recompute {
                activations.push(saved);
            }
            inputs.push(std::mem::replace(&mut x, y));
        }
        let mut dx = vec![0.0; x.len()];
        let loss = {
            let mut pool = Pool::default();
            let mut out = LossGradients { dx: &mut dx, gradients };
            self.lm_head(weights)
                .loss_gradient(batch, &x, context.scale, &mut out, &mut pool)
        };
        let mut statistics = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter().rev() {
            let input = inputs.pop().unwrap_or_default();
            let mut saved = activations
                .pop()
                .unwrap_or_else(|| layer.forward(weights, &input, &batch.lengths, None).1);
            let (d, load) = layer.backward(backward, &input, &mut saved, dx, gradients);
            dx = d;
            statistics.push(layer_statistics(load, layer.expert_choices()));
        }
        statistics.reverse();
        if weights.adapter.is_none() {
            let gradient = &mut gradients[self.embedding.clone()];
            embedding_gradient(&batch.tokens, &dx, self.config.hidden_size, gradient);
        }
        StepOutput {
            loss,
            layers: statistics,
        }
    }

    /// Summed negative log-likelihood and number of targets of each document, without gradients.
    ///
    /// # Errors
    /// As [`SynapseModel::accumulate`].
    pub fn losses(&self, values: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        self.losses_under(self.weights(values, ReductionOrder::Fastest, None), batch)
    }

    pub(crate) fn losses_under(&self, weights: Weights<'_>, batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        self.check(batch)?;
        let mut x = self.embed(weights.values, &batch.tokens);
        for layer in &self.layers {
            x = layer.forward(weights, &x, &batch.lengths, None).0;
        }
        Ok(self.lm_head(weights).document_losses(batch, &x, &mut Pool::default()))
    }

    /// After an optimizer step: moves the routers' selection bias towards the choices whose load was below average, in a
    /// model with a `selection_bias_rate`. The statistics are sums over the step's micro-batches.
    pub fn post_step(&self, values: &mut [f32], statistics: &[LayerRouterStatistics]) {
        for (layer, statistics) in self.layers.iter().zip(statistics) {
            layer.post_step(values, &statistics.counts, self.modules.selection_bias_rate as f32);
        }
    }

    /// The final norm and the output head as the loss goes over them; under an adapter both are frozen.
    fn lm_head<'a>(&self, weights: Weights<'a>) -> LmHead<'a> {
        let frozen = weights.adapter.is_some();
        LmHead {
            norm: weights.of(&self.norm),
            norm_gradient: (!frozen).then(|| self.norm.clone()),
            weight: weights.of(&self.head.weight()).into(),
            weight_gradient: (!frozen).then(|| self.head.weight()),
            hidden: self.config.hidden_size,
            vocab: self.config.vocab_size,
            epsilon: self.config.rms_norm_eps as f32,
            precision: weights.precision,
            storage: Precision::F32,
            order: weights.order,
            chunk_rows: LOGIT_ROWS,
        }
    }
}

fn layer_statistics(load: RouterLoad, experts: Range<usize>) -> LayerRouterStatistics {
    LayerRouterStatistics {
        balance: load.balance,
        z: load.z,
        counts: load.counts,
        experts,
    }
}
