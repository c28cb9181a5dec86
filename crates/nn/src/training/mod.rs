//! Forward and backward of a whole model over one micro-batch, with the layer loop written out.
//!
//! A micro-batch is a row of documents laid end to end without padding; each attends to itself alone.
//! The backward pass adds to one flat f32 gradient buffer. With `recompute`, only each layer's input is
//! kept and the rest is computed again.

mod cost;
mod layer;
mod loss;

pub use cost::{Memory, Trained, Workload};
use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_kernels::{Matrix, Precision, attention::Heads, elementwise::Dropout, random::Stream};

use crate::{
    Decoder, LoadOptions, NnError, Parameter,
    linear::Lora,
    parameters::{LoraOptions, LoraSlots, initial_lora, initial_weights, lora_layout},
    pool::Pool,
};

/// Documents of one micro-batch, laid end to end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The token each position is trained to predict; `None` where it is not trained.
    pub targets: Vec<Option<u32>>,
    /// Tokens of each document; they sum to `tokens.len()`.
    pub lengths: Vec<usize>,
}

impl MicroBatch {
    /// Adds documents given in Hugging Face's form: labels aligned with the ids, −100 where not trained.
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

    /// Positions that are trained.
    pub fn trained(&self) -> usize {
        self.targets.iter().flatten().count()
    }
}

/// What a pass needs to know besides the batch.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// Factor on the loss and gradients: one over the trained tokens of the whole accumulation group.
    pub scale: f32,
    /// Key of the dropout masks: seed, optimizer step, micro-batch.
    pub key: [u64; 3],
    /// Keep only layer inputs and compute the rest again.
    pub recompute: bool,
}

/// A model with trainable parameters: LoRA over frozen weights, or every weight.
#[derive(Debug)]
pub struct TrainableModel {
    decoder: Decoder,
    layout: Vec<Parameter>,
    lora: Option<(LoraOptions, LoraSlots)>,
    pool: Pool,
}

impl TrainableModel {
    /// LoRA over the frozen weights of a model folder.
    ///
    /// # Errors
    /// An unreadable folder or a target that the model does not have.
    pub fn lora(folder: &ModelFolder, load: &LoadOptions, options: LoraOptions) -> Result<Self, NnError> {
        let (layout, slots) = lora_layout(folder.config(), &options)?;
        Ok(Self {
            decoder: Decoder::load(folder, load)?,
            layout,
            lora: Some((options, slots)),
            pool: Pool::default(),
        })
    }

    /// LoRA over random frozen weights of a model of this configuration, made tensor by tensor: for measuring
    /// what training costs.
    ///
    /// # Errors
    /// A target that the model does not have.
    pub fn lora_random(config: &ModelConfig, load: &LoadOptions, options: LoraOptions) -> Result<Self, NnError> {
        let (layout, slots) = lora_layout(config, &options)?;
        Ok(Self {
            decoder: Decoder::random(config, load)?,
            layout,
            lora: Some((options, slots)),
            pool: Pool::default(),
        })
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

    /// The trainable tensors in the order they lie in the flat buffer.
    pub fn layout(&self) -> &[Parameter] {
        &self.layout
    }

    /// Length of the flat buffers.
    pub fn parameters(&self) -> usize {
        self.layout.last().map_or(0, |last| last.range.end)
    }

    /// The model behind.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Values to start from when training begins from nothing (LoRA, or a fresh model).
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        match self.lora {
            Some(_) => initial_lora(&self.layout, seed),
            None => initial_weights(&self.layout, &self.decoder.config, seed),
        }
    }

    /// Values of a full model to continue from.
    ///
    /// # Errors
    /// An unreadable tensor.
    pub fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, NnError> {
        let mut values = Vec::with_capacity(self.parameters());
        for parameter in &self.layout {
            values.extend(folder.read_f32(&parameter.name)?);
        }
        Ok(values)
    }

    fn heads(&self) -> Heads {
        let config = &self.decoder.config;
        Heads {
            queries: config.num_attention_heads,
            keys: config.num_key_value_heads,
            dim: config.head_dim,
            precision: self.decoder.precision,
        }
    }

    /// The LoRA branch of a module with its dropout mask for this pass.
    fn branch<'a>(
        &'a self,
        parameters: &'a [f32],
        layer: usize,
        slot: usize,
        key: Option<[u64; 3]>,
    ) -> Option<Lora<'a>> {
        let (options, slots) = self.lora.as_ref()?;
        let ranges = &slots[layer][slot].as_ref()?.ranges;
        let dropout = key
            .filter(|_| options.dropout > 0.0)
            .map(|[seed, step, micro]| Dropout {
                stream: Stream::new(&[seed, step, micro, (layer * 7 + slot) as u64]),
                probability: options.dropout,
            });
        Some(Lora {
            a: Matrix::F32(&parameters[ranges.a.clone()]),
            b: Matrix::F32(&parameters[ranges.b.clone()]),
            rank: options.rank,
            scale: options.scale,
            dropout,
        })
    }

    /// One micro-batch: adds `scale ·` the gradient of the summed loss to `gradients` and returns the
    /// summed negative log-likelihood in nats (not scaled).
    ///
    /// # Errors
    /// A token outside the vocabulary, or a document longer than the model's positions.
    pub fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        pass: &Pass,
    ) -> Result<f64, NnError> {
        self.check(batch)?;
        let mut pool = std::mem::take(&mut self.pool);
        let sum = self.forward_backward(parameters, gradients, batch, pass, &mut pool);
        self.pool = pool;
        Ok(sum)
    }

    fn forward_backward(
        &self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        pass: &Pass,
        pool: &mut Pool,
    ) -> f64 {
        let work = layer::Work::new(self, parameters, batch, Some(pass.key));
        let mut x = pool.take(batch.tokens.len() * self.decoder.config.hidden_size); // [t, hidden]
        self.decoder.embed(parameters, &batch.tokens, &mut x);
        let mut inputs = Vec::with_capacity(self.decoder.layers.len());
        let mut states = Vec::new();
        for index in 0..self.decoder.layers.len() {
            let mut y = pool.take(x.len());
            let state = work.forward(index, &x, &mut y, pool);
            if pass.recompute {
                state.release(pool);
            } else {
                states.push(state);
            }
            inputs.push(std::mem::replace(&mut x, y));
        }
        let mut dx = pool.zeros(x.len());
        let sum = self.loss_gradient(
            parameters,
            batch,
            &x,
            pass.scale,
            &mut loss::Gradient { dx: &mut dx, gradients },
            pool,
        );
        pool.give(x);
        for index in (0..self.decoder.layers.len()).rev() {
            let input = inputs.pop().unwrap_or_default();
            let state = states.pop().unwrap_or_else(|| {
                let mut y = pool.take(input.len());
                let state = work.forward(index, &input, &mut y, pool);
                pool.give(y);
                state
            });
            dx = work.backward(index, &input, state, dx, gradients, pool);
            pool.give(input);
        }
        self.embedding_gradient(batch, &dx, gradients);
        pool.give(dx);
        sum
    }

    /// Adds the input gradient to the embedding's rows, where the embedding is trained.
    fn embedding_gradient(&self, batch: &MicroBatch, dx: &[f32], gradients: &mut [f32]) {
        let Some(range) = self.decoder.embedding.range() else {
            return;
        };
        let hidden = self.decoder.config.hidden_size;
        let gradient = &mut gradients[range];
        for (&token, row) in batch.tokens.iter().zip(dx.chunks_exact(hidden)) {
            let start = token as usize * hidden;
            for (target, value) in gradient[start..start + hidden].iter_mut().zip(row) {
                *target += value;
            }
        }
    }

    /// Summed negative log-likelihood and trained positions of each document, without gradients or dropout.
    ///
    /// # Errors
    /// As [`TrainableModel::accumulate`].
    pub fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        self.check(batch)?;
        let mut pool = std::mem::take(&mut self.pool);
        let work = layer::Work::new(self, parameters, batch, None);
        let mut x = pool.take(batch.tokens.len() * self.decoder.config.hidden_size);
        self.decoder.embed(parameters, &batch.tokens, &mut x);
        for index in 0..self.decoder.layers.len() {
            let mut y = pool.take(x.len());
            work.forward(index, &x, &mut y, &mut pool).release(&mut pool);
            pool.give(std::mem::replace(&mut x, y));
        }
        let losses = self.document_losses(parameters, batch, &x, &mut pool);
        pool.give(x);
        self.pool = pool;
        Ok(losses)
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
