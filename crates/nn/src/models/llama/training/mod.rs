//! Forward and backward of a decoder over one micro-batch, with the layer loop written out.
//!
//! The backward pass adds to one flat f32 gradient buffer. With `recompute`, only the layers' inputs are saved and
//! the rest is computed again.

mod head_norm;
mod layer;

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_kernels::{Precision, random::Stream};

use crate::{
    LoadOptions, MicroBatch, NnError, Parameter, StepContext, TrainableModel,
    adapter_source::{AdapterSource, TrainedAdapter},
    linear::ReductionOrder,
    lora::{LoraLayout, LoraOptions, initial_lora},
    loss::{LmHead, LossGradients, embedding_gradient},
    pool::Pool,
};

use super::decoder::Decoder;

/// Rows of logits held at once. The head is packed once a chunk in each direction, which costs as much as some
/// twenty rows.
pub(super) fn logit_rows(vocab: usize) -> usize {
    /// 256 rows of a 49,152-word vocabulary, 48 MiB.
    const ELEMENTS: usize = 256 * 49_152;
    (ELEMENTS / vocab).max(128)
}

/// A decoder with trainable parameters: LoRA over frozen weights, or every weight.
#[derive(Debug)]
pub struct TrainableDecoder {
    decoder: Decoder,
    layout: Vec<Parameter>,
    lora: Option<LoraLayout>,
    pool: Pool,
}

impl TrainableDecoder {
    /// LoRA over the frozen weights of a model folder.
    ///
    /// # Errors
    /// An unreadable folder or a target that the model does not have.
    pub fn lora(folder: &ModelFolder, load: &LoadOptions, options: LoraOptions) -> Result<Self, NnError> {
        let lora = LoraLayout::new(folder.config(), options)?;
        Ok(Self::adapted(Decoder::load(folder, load)?, lora))
    }

    /// LoRA over random frozen weights of a model of this configuration, made tensor by tensor: for measuring
    /// what training costs.
    ///
    /// # Errors
    /// A target that the model does not have.
    pub fn lora_random(config: &ModelConfig, load: &LoadOptions, options: LoraOptions) -> Result<Self, NnError> {
        let lora = LoraLayout::new(config, options)?;
        Ok(Self::adapted(Decoder::random(config, load)?, lora))
    }

    fn adapted(decoder: Decoder, lora: LoraLayout) -> Self {
        Self {
            decoder,
            layout: lora.parameters().to_vec(),
            lora: Some(lora),
            pool: Pool::default(),
        }
    }

    /// Every weight of a model of this configuration.
    ///
    /// # Errors
    /// None today; loading shares the signature.
    pub fn full(config: &ModelConfig, precision: Precision) -> Result<Self, NnError> {
        let (decoder, source) = Decoder::parametric(config, precision)?;
        let layout = source
            .entries
            .into_iter()
            .map(|(name, shape, range)| Parameter {
                decays: shape.len() == 2,
                name,
                shape,
                range,
            })
            .collect();
        Ok(Self {
            decoder,
            layout,
            lora: None,
            pool: Pool::default(),
        })
    }

    /// Length of the flat buffers.
    pub fn parameters(&self) -> usize {
        self.layout.last().map_or(0, |last| last.range.end)
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The adapter with its dropout masks of this pass.
    fn adapter<'a>(&'a self, parameters: &'a [f32], key: Option<[u64; 3]>) -> Option<AdapterSource<'a>> {
        self.lora.as_ref().map(|layout| {
            AdapterSource::Trained(TrainedAdapter {
                layout,
                values: parameters,
                key,
                gradient_offset: 0,
            })
        })
    }

    fn lm_head<'a>(&'a self, parameters: &'a [f32]) -> LmHead<'a> {
        let rows = logit_rows(self.decoder.config.vocab_size);
        self.decoder.lm_head(parameters, ReductionOrder::Fastest, rows)
    }

    fn forward_backward(
        &self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
        pool: &mut Pool,
    ) -> f64 {
        let layers = layer::LayerPass::new(self, parameters, batch, Some(context.key));
        let mut x = pool.take(batch.tokens.len() * self.decoder.config.hidden_size); // [t, hidden]
        self.decoder.embed(parameters, &batch.tokens, &mut x);
        let mut inputs = Vec::with_capacity(self.decoder.layers.len());
        let mut activations = Vec::new();
        for index in 0..self.decoder.layers.len() {
            let mut y = pool.take(x.len());
            let saved = layers.forward(index, &x, &mut y, pool);
            if context.recompute {
                saved.release(pool);
            } else {
                activations.push(saved);
            }
            inputs.push(std::mem::replace(&mut x, y));
        }
        let mut dx = pool.zeros(x.len());
        let mut out = LossGradients { dx: &mut dx, gradients };
        let sum = self
            .lm_head(parameters)
            .loss_gradient(batch, &x, context.scale, &mut out, pool);
        pool.give(x);
        for index in (0..self.decoder.layers.len()).rev() {
            let input = inputs.pop().unwrap_or_default();
            let saved = activations.pop().unwrap_or_else(|| {
                let mut y = pool.take(input.len());
                let saved = layers.forward(index, &input, &mut y, pool);
                pool.give(y);
                saved
            });
            dx = layers.backward(index, &input, saved, dx, gradients, pool);
            pool.give(input);
        }
        if let Some(range) = self.decoder.embedding.range() {
            embedding_gradient(
                &batch.tokens,
                &dx,
                self.decoder.config.hidden_size,
                &mut gradients[range],
            );
        }
        pool.give(dx);
        sum
    }

    fn check(&self, batch: &MicroBatch) -> Result<(), NnError> {
        self.decoder.check_tokens(&batch.tokens)?;
        let limit = self.decoder.config.max_position_embeddings;
        match batch.lengths.iter().find(|&&length| length > limit) {
            Some(&positions) => Err(NnError::ContextOverflow { positions, limit }),
            None => Ok(()),
        }
    }
}

impl TrainableModel for TrainableDecoder {
    fn config(&self) -> &ModelConfig {
        &self.decoder.config
    }

    fn layout(&self) -> &[Parameter] {
        &self.layout
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        match self.lora {
            Some(_) => initial_lora(&self.layout, seed),
            None => initial_weights(&self.layout, &self.decoder.config, seed),
        }
    }

    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<f64, NnError> {
        self.check(batch)?;
        let mut pool = std::mem::take(&mut self.pool);
        let sum = self.forward_backward(parameters, gradients, batch, context, &mut pool);
        self.pool = pool;
        Ok(sum)
    }

    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        self.check(batch)?;
        let mut pool = std::mem::take(&mut self.pool);
        let layers = layer::LayerPass::new(self, parameters, batch, None);
        let mut x = pool.take(batch.tokens.len() * self.decoder.config.hidden_size);
        self.decoder.embed(parameters, &batch.tokens, &mut x);
        for index in 0..self.decoder.layers.len() {
            let mut y = pool.take(x.len());
            layers.forward(index, &x, &mut y, &mut pool).release(&mut pool);
            pool.give(std::mem::replace(&mut x, y));
        }
        let losses = self.lm_head(parameters).document_losses(batch, &x, &mut pool);
        pool.give(x);
        self.pool = pool;
        Ok(losses)
    }
}

/// Initial values of a decoder trained from scratch: matrices N(0, `initializer_range`), norms one, biases zero.
fn initial_weights(parameters: &[Parameter], config: &ModelConfig, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; parameters.last().map_or(0, |last| last.range.end)];
    for (index, parameter) in parameters.iter().enumerate() {
        let target = &mut values[parameter.range.clone()];
        if parameter.shape.len() == 2 {
            let stream = Stream::new(&[seed, index as u64]);
            for (i, value) in target.iter_mut().enumerate() {
                *value = config.initializer_range as f32 * stream.normal(i as u64);
            }
        } else if parameter.name.ends_with("norm.weight") {
            target.fill(1.0);
        }
    }
    values
}
