//! What a serving engine needs of a model: one ragged forward pass over many sequences.

use synapse_kernels::attention::Phase;

use crate::{Adapter, KvCache, MicroBatch, ModuleTrace, NnError};

/// What a step gives of a sequence's new tokens: the logits of which positions, or what embeddings are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsFor {
    /// None (a prefill chunk that is not the last).
    None,
    /// The last token only.
    Last,
    /// Every new token.
    All,
    /// No logits, but the sum over the new tokens of their hidden states after the last norm, `[hidden_size]`.
    HiddenSum,
}

/// New tokens of one sequence together with its cache and the adapter it runs under.
#[derive(Debug)]
pub struct Sequence<'a> {
    /// Tokens to append, at least one.
    pub tokens: &'a [u32],
    /// The sequence's own cache; the tokens are appended to it.
    pub cache: &'a mut KvCache,
    /// What the tokens are: a token's numbers depend on it, and on nothing else in the batch.
    pub phase: Phase,
    /// The LoRA adapter this sequence runs under, or the bare base.
    pub adapter: Option<&'a Adapter>,
    /// What the step gives.
    pub logits: LogitsFor,
}

/// A model that an engine can drive and whose losses can be taken.
pub trait LanguageModel: CausalLm {
    /// Summed negative log-likelihood in nats and trained positions of each document, under an adapter or the bare base.
    ///
    /// # Errors
    /// A token outside the vocabulary, more positions than the model has, or an adapter that it cannot carry.
    fn document_losses(&self, batch: &MicroBatch, adapter: Option<&Adapter>) -> Result<Vec<(f64, usize)>, NnError>;
}

/// A causal language model that an engine can drive.
pub trait CausalLm: Send + Sync {
    /// Width of a row of logits.
    fn vocab_size(&self) -> usize;
    /// Width of a hidden state.
    fn hidden_size(&self) -> usize;
    /// Positions the model was made for.
    fn max_positions(&self) -> usize;
    /// An empty cache of the right shape.
    fn new_cache(&self) -> KvCache;
    /// Appends each sequence's tokens to its cache and returns per sequence the logits
    /// `[n, vocab_size]`, flattened, of the positions asked for, or the sum of its hidden states.
    ///
    /// # Errors
    /// A token outside the vocabulary or more positions than the model has; nothing is appended then.
    fn forward(&self, batch: &mut [Sequence<'_>]) -> Result<Vec<Vec<f32>>, NnError>;

    /// The modules that a router chooses among, in the order of its logits; none of a model that sends every token
    /// through all of itself.
    fn modules(&self) -> Vec<String> {
        Vec::new()
    }

    /// What every layer does with each of these tokens, read from the beginning; `None` of a model that sends every
    /// token through all of itself.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    fn trace(&self, tokens: &[u32], adapter: Option<&Adapter>) -> Result<Option<ModuleTrace>, NnError> {
        let _ = (tokens, adapter);
        Ok(None)
    }
}
