//! The decoder's weights on a device, with embedding, head and checks.

use candle_core::{DType, Device, Tensor};
use candle_nn::{Embedding, Module};
use synapse_checkpoint::{Architecture, ModelConfig, ModelFolder};
use synapse_nn::{MicroBatch, NnError, inverse_frequencies};

use crate::{CandleError, WeightStorage, layer::Layer, load::Loader, norm::rms_norm, sequences::Sequences};

/// A decoder of the Llama family on a device. Its weights are frozen.
#[derive(Debug)]
pub struct CandleDecoder {
    config: ModelConfig,
    embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    norm: Tensor,
    /// `None` where the head is tied to the embedding.
    head: Option<Tensor>,
    frequencies: Vec<f32>,
    device: Device,
    dtype: DType,
}

impl CandleDecoder {
    /// Loads a model folder to `device`. Activations and products are in `dtype`, f32 or bf16; norms, softmax and
    /// losses are in f32 either way.
    ///
    /// # Errors
    /// An unreadable tensor, another dtype, or no memory on the device.
    pub fn load(
        folder: &ModelFolder,
        device: &Device,
        dtype: DType,
        quantization: WeightStorage,
    ) -> Result<Self, CandleError> {
        check_architecture(folder.config())?;
        let (config, loader) = (folder.config(), Loader::new(folder, device, dtype, quantization)?);
        let words = [config.vocab_size, config.hidden_size];
        Ok(Self {
            embedding: Embedding::new(loader.matrix("model.embed_tokens.weight", words)?, config.hidden_size),
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(&loader, config, index))
                .collect::<Result<_, _>>()?,
            norm: loader.norm("model.norm.weight")?,
            head: (!config.tie_word_embeddings)
                .then(|| loader.matrix("lm_head.weight", words))
                .transpose()?,
            frequencies: inverse_frequencies(config),
            config: config.clone(),
            device: device.clone(),
            dtype,
        })
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the weights are.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What activations and products are in.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes of matrices on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let words = |matrix: &Tensor| matrix.elem_count() * self.dtype.size_in_bytes();
        words(self.embedding.embeddings())
            + self.head.as_ref().map_or(0, words)
            + self.layers.iter().map(Layer::bytes).sum::<usize>()
    }

    /// Looks tokens up: `[t, hidden]`.
    pub(crate) fn embed(&self, tokens: &[u32]) -> Result<Tensor, CandleError> {
        Ok(self
            .embedding
            .forward(&Tensor::from_slice(tokens, tokens.len(), &self.device)?)?)
    }

    /// The output head `[vocab, hidden]`: its own matrix or the embedding.
    pub(crate) fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(self.embedding.embeddings())
    }

    /// The norm before the head.
    pub(crate) fn final_norm(&self, x: &Tensor) -> Result<Tensor, CandleError> {
        Ok(rms_norm(x, &self.norm, self.config.rms_norm_eps)?)
    }

    /// Logits `[n, vocab]` in f32 of normed rows.
    pub(crate) fn head_logits(&self, normed: &Tensor) -> Result<Tensor, CandleError> {
        Ok(normed.matmul(&self.head().t()?)?.to_dtype(DType::F32)?)
    }

    /// The rows of a micro-batch.
    pub(crate) fn documents(&self, lengths: &[usize]) -> Result<Sequences, CandleError> {
        Ok(Sequences::documents(
            lengths,
            &self.frequencies,
            self.dtype,
            &self.device,
        )?)
    }

    /// `count` rows after `past` cached ones.
    pub(crate) fn continued(&self, past: usize, count: usize) -> Result<Sequences, CandleError> {
        Ok(Sequences::continued(
            past,
            count,
            &self.frequencies,
            self.dtype,
            &self.device,
        )?)
    }

    /// Refuses tokens outside the vocabulary and sequences longer than the context.
    pub(crate) fn check(&self, tokens: &[u32], longest: usize) -> Result<(), CandleError> {
        let (vocab_size, limit) = (self.config.vocab_size, self.config.max_position_embeddings);
        if let Some(&id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(NnError::TokenOutOfRange { id, vocab_size }.into());
        }
        if longest > limit {
            return Err(NnError::ContextOverflow {
                positions: longest,
                limit,
            }
            .into());
        }
        Ok(())
    }

    /// As [`CandleDecoder::check`], and that the batch's three lists belong together.
    pub(crate) fn check_batch(&self, batch: &MicroBatch) -> Result<(), CandleError> {
        let expected = batch.tokens.len();
        for (what, found) in [
            ("targets of the batch", batch.targets.len()),
            ("documents of the batch", batch.lengths.iter().sum()),
        ] {
            if found != expected {
                return Err(CandleError::Length { what, expected, found });
            }
        }
        self.check(&batch.tokens, batch.lengths.iter().copied().max().unwrap_or(0))?;
        // a target is looked up in the logits, so it must be a token too
        self.check(&batch.targets.iter().flatten().copied().collect::<Vec<_>>(), 0)
    }
}

/// Refuses the architectures that have no candle decoder.
pub(crate) fn check_architecture(config: &ModelConfig) -> Result<(), CandleError> {
    match config.architecture {
        Architecture::Llama
        | Architecture::Mistral
        | Architecture::SmolLM3
        | Architecture::Qwen2
        | Architecture::Qwen3 => Ok(()),
        Architecture::Synapse => Err(NnError::Unsupported {
            what: "a Synapse model in the candle backend".to_owned(),
            hint: "use `--device cpu`".to_owned(),
        }
        .into()),
    }
}
