//! The contract of a model for inference: one ragged forward pass over many sequences.

use synapse_checkpoint::DType;
use synapse_kernels::attention::Phase;

use crate::{Adapter, KvCache, MicroBatch, ModuleTrace, NnError};

/// The output of a forward pass for one sequence: logits of some positions, or pooled hidden states for embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsFor {
    /// None (a prefill chunk that is not the last).
    None,
    /// The last token only.
    Last,
    /// Every new token.
    All,
    /// Instead of logits, the sum of the hidden states of the new tokens after the final norm, `[hidden_size]`.
    HiddenSum,
}

/// The new tokens of one sequence, its cache and its adapter.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// Tokens to append, at least one.
    pub tokens: &'a [u32],
    /// The sequence's own cache; the tokens are appended to it.
    pub cache: &'a mut KvCache,
    /// Prefill or decode. A token's numbers depend on it, and on nothing else in the batch.
    pub phase: Phase,
    /// The LoRA adapter of this sequence; `None` for the base model alone.
    pub adapter: Option<&'a Adapter>,
    /// The output to compute.
    pub logits: LogitsFor,
}

/// A causal language model that can also score documents.
pub trait LanguageModel: CausalLm {
    /// Summed negative log-likelihood in nats and number of targets of each document, with or without an adapter.
    ///
    /// # Errors
    /// A token outside the vocabulary, more positions than the model has, or an adapter of another model.
    fn document_losses(&self, batch: &MicroBatch, adapter: Option<&Adapter>) -> Result<Vec<(f64, usize)>, NnError>;

    /// Replaces a tensor's values by little-endian elements of `dtype`, in the storage that it has. Afterwards the model is
    /// the one that loading a folder with these values would give.
    ///
    /// # Errors
    /// The model has no such tensor, the number of elements differs, or the tensor is quantized or trainable.
    fn set_tensor(&mut self, name: &str, dtype: DType, bytes: &[u8]) -> Result<(), NnError>;
}

/// A causal language model for inference.
pub trait CausalLm: Send + Sync {
    /// Width of a row of logits.
    fn vocab_size(&self) -> usize;
    /// Width of a hidden state.
    fn hidden_size(&self) -> usize;
    /// The longest context, in tokens.
    fn max_positions(&self) -> usize;
    /// An empty cache of the right shape.
    fn new_cache(&self) -> KvCache;
    /// Appends each sequence's tokens to its cache and returns per sequence the logits
    /// `[n, vocab_size]`, flattened, of the positions asked for, or the sum of its hidden states.
    ///
    /// # Errors
    /// A token outside the vocabulary or more positions than the model has; nothing is appended then.
    fn forward(&self, batch: &mut [Sequence<'_>]) -> Result<Vec<Vec<f32>>, NnError>;

    /// Names of the modules that a router chooses from, in the order of its logits. Empty for a dense model.
    fn modules(&self) -> Vec<String> {
        Vec::new()
    }

    /// The routing of each token of a sequence in every layer; `None` for a dense model.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    fn trace(&self, tokens: &[u32], adapter: Option<&Adapter>) -> Result<Option<ModuleTrace>, NnError> {
        let _ = (tokens, adapter);
        Ok(None)
    }
}
