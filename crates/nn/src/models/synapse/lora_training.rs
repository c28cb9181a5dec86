//! LoRA over the frozen weights of a Synapse model.
//!
//! Any module whose name ends in `_proj` can be adapted. PEFT's usual seven targets reach the language module, the
//! experts and the memory, and leave the router as it is.

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_kernels::Precision;

use crate::{
    LoraOptions, MicroBatch, NnError, Parameter, StepContext,
    adapter_source::{AdapterSource, TrainedAdapter},
    initial_lora,
    linear::ReductionOrder,
    lora::LoraLayout,
};

use super::{linear::Weights, model::SynapseModel, training::StepOutput};

/// A Synapse model with frozen weights and a trainable adapter. The caller owns the adapter's values.
#[derive(Debug)]
pub struct SynapseLora {
    model: SynapseModel,
    values: Vec<f32>,
    layout: LoraLayout,
    /// Gradients of all values. Those of frozen norms, convolutions and decay rates are computed and discarded.
    gradients: Vec<f32>,
}

impl SynapseLora {
    /// An adapter over the weights of a model folder.
    ///
    /// # Errors
    /// Another architecture, an unreadable tensor, or a target that the model does not have.
    pub fn new(folder: &ModelFolder, precision: Precision, options: LoraOptions) -> Result<Self, NnError> {
        let model = SynapseModel::new(folder.config(), precision)?;
        let values = model.read(folder)?;
        Self::over(model, values, options)
    }

    /// An adapter over random weights of this shape, for measuring what training costs.
    ///
    /// # Errors
    /// Another architecture, or a target that the model does not have.
    pub fn random(config: &ModelConfig, precision: Precision, options: LoraOptions) -> Result<Self, NnError> {
        let model = SynapseModel::new(config, precision)?;
        let values = model.initial(0);
        Self::over(model, values, options)
    }

    fn over(model: SynapseModel, values: Vec<f32>, options: LoraOptions) -> Result<Self, NnError> {
        let layout = LoraLayout::new(model.config(), options)?;
        let gradients = vec![0.0; values.len() + layout.num_values()];
        Ok(Self {
            model,
            values,
            layout,
            gradients,
        })
    }

    /// The configuration of the base model.
    pub fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// The adapter's tensors in the order they lie in the flat buffer: per module A, then B.
    pub fn layout(&self) -> &[Parameter] {
        self.layout.parameters()
    }

    /// Values to start from, as PEFT draws them.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        initial_lora(self.layout.parameters(), seed)
    }

    /// As [`SynapseModel::choice_names`].
    pub fn choice_names(&self) -> Vec<String> {
        self.model.choice_names()
    }

    fn weights<'a>(&'a self, adapter: &'a [f32], key: Option<[u64; 3]>) -> Weights<'a> {
        let source = AdapterSource::Trained(TrainedAdapter {
            layout: &self.layout,
            values: adapter,
            key,
            gradient_offset: self.values.len(),
        });
        self.model.weights(&self.values, ReductionOrder::Fastest, Some(source))
    }

    /// One micro-batch, as [`SynapseModel::accumulate`]: adds to the adapter's gradients.
    ///
    /// # Errors
    /// A token outside the vocabulary, or a document longer than the model's positions.
    pub fn accumulate(
        &mut self,
        adapter: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<StepOutput, NnError> {
        self.model.check(batch)?;
        let mut all = std::mem::take(&mut self.gradients);
        let own = self.values.len();
        all[own..].fill(0.0);
        let output = self
            .model
            .step(self.weights(adapter, Some(context.key)), &mut all, batch, context);
        gradients
            .iter_mut()
            .zip(&all[own..])
            .for_each(|(sum, value)| *sum += value);
        self.gradients = all;
        Ok(output)
    }

    /// Summed negative log-likelihood and number of targets of each document, without gradients or dropout.
    ///
    /// # Errors
    /// As [`SynapseLora::accumulate`].
    pub fn losses(&self, adapter: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        self.model.losses_under(self.weights(adapter, None), batch)
    }
}
