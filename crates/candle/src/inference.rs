//! Logits of prompts and of their continuations, and losses of documents, without gradients.

use candle_core::Tensor;
use synapse_nn::{MicroBatch, NnError};

use crate::{CandleDecoder, CandleError, DeviceAdapter, layer::LayerCache, lora::BARE};

/// Keys and values of one sequence on the decoder's device. Cloning shares the rows stored so far.
#[derive(Debug, Clone, Default)]
pub struct DeviceCache {
    layers: Vec<LayerCache>,
    len: usize,
}

impl DeviceCache {
    /// Positions stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops all positions from `len` on. Does nothing if fewer are stored.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl CandleDecoder {
    /// Logits of every position of a prompt, `[n, vocab]` flattened.
    ///
    /// # Errors
    /// No token, a token outside the vocabulary, or more positions than the model has.
    pub fn logits(&self, tokens: &[u32], adapter: Option<&DeviceAdapter>) -> Result<Vec<f32>, CandleError> {
        let x = self.hidden(tokens, &mut DeviceCache::default(), adapter)?;
        self.logits_of(&x)
    }

    /// Appends tokens to a cached sequence; logits `[vocab]` of the last.
    ///
    /// # Errors
    /// As [`CandleDecoder::logits`]; the cache is then unchanged.
    pub fn append(
        &self,
        tokens: &[u32],
        cache: &mut DeviceCache,
        adapter: Option<&DeviceAdapter>,
    ) -> Result<Vec<f32>, CandleError> {
        let x = self.hidden(tokens, cache, adapter)?;
        let logits = self.logits_of(&x.narrow(0, tokens.len() - 1, 1)?)?;
        cache.len += tokens.len();
        Ok(logits)
    }

    /// Summed negative log-likelihood (nats) and number of targets of each document of a batch.
    ///
    /// # Errors
    /// A token outside the vocabulary, or a document longer than the model's positions.
    pub fn document_losses(
        &self,
        batch: &MicroBatch,
        adapter: Option<&DeviceAdapter>,
    ) -> Result<Vec<(f64, usize)>, CandleError> {
        self.check_batch(batch)?;
        if batch.num_targets() == 0 {
            return Ok(vec![(0.0, 0); batch.lengths.len()]);
        }
        let sequences = self.documents(&batch.lengths)?;
        let mut x = self.embed(&batch.tokens)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(
                &x,
                &sequences,
                adapter.map_or(&BARE, |adapter| adapter.layer(index)),
                None,
            )?;
        }
        self.losses_by_document(batch, &x)
    }

    /// The last layer's output `[n, hidden]`. Appends to the cache's layers; the caller advances its length.
    fn hidden(
        &self,
        tokens: &[u32],
        cache: &mut DeviceCache,
        adapter: Option<&DeviceAdapter>,
    ) -> Result<Tensor, CandleError> {
        if tokens.is_empty() {
            let hint = "give every sequence at least one token".to_owned();
            return Err(NnError::Unsupported {
                what: "a forward pass without tokens".to_owned(),
                hint,
            }
            .into());
        }
        self.check(tokens, cache.len + tokens.len())?;
        cache.layers.resize(self.layers.len(), None);
        let sequences = self.continued(cache.len, tokens.len())?;
        let mut x = self.embed(tokens)?;
        for (index, (layer, cache)) in self.layers.iter().zip(&mut cache.layers).enumerate() {
            x = layer.forward(
                &x,
                &sequences,
                adapter.map_or(&BARE, |adapter| adapter.layer(index)),
                Some(cache),
            )?;
        }
        Ok(x)
    }

    fn logits_of(&self, x: &Tensor) -> Result<Vec<f32>, CandleError> {
        Ok(self.head_logits(&self.final_norm(x)?)?.flatten_all()?.to_vec1()?)
    }
}
