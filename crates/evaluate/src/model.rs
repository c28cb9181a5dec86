//! The model under test, as the suites see it.
//!
//! Base, specialists and merge are measured only through [`EvalModel`], so a difference between two of them can only come
//! from the model. The trait does not mention devices, adapters or files.

use serde::{Deserialize, Serialize};
use synapse_tokenizer::ChatTokenizer;

use crate::Result;

/// A model under test; what lm-evaluation-harness calls `LM`.
pub trait EvalModel {
    /// Its name in results, such as `base`, `math` or `merge`.
    fn name(&self) -> &str;

    /// Its tokenizer and chat template.
    fn chat(&self) -> &ChatTokenizer;

    /// Its context length, prompt and answer together; `None` without a limit.
    fn max_positions(&self) -> Option<usize> {
        None
    }

    /// Whether the user asked to stop. Suites check it between steps that do not call the model.
    fn is_stopped(&self) -> bool {
        false
    }

    /// Summed cross-entropy of each document, in nats; documents do not share context.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Model`] when the model fails.
    fn losses(&mut self, rows: &[LabeledDocument<'_>]) -> Result<Vec<DocumentLoss>>;

    /// Continues every prompt. Each answer goes to `each` in the order of the prompts, as soon as it and all earlier
    /// ones are finished, without the stop token. The prompts form one batch, whatever their number.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Model`] when the model fails; an error of `each` ends generation and is returned.
    fn generate(&mut self, prompts: &[Vec<u32>], options: &GenerationOptions, each: &mut OnGenerated<'_>)
    -> Result<()>;

    /// Summed log-probability (nats) of each continuation after its prompt: one list per item, in order.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Model`] when the model fails.
    fn score(&mut self, items: &[MultipleChoiceItem]) -> Result<Vec<Vec<f64>>>;
}

/// A document to compute the loss of.
#[derive(Debug, Clone, Copy)]
pub struct LabeledDocument<'a> {
    /// Token ids.
    pub input_ids: &'a [u32],
    /// As long as `input_ids` and aligned with it (not shifted); −100 where a token is not a target.
    pub labels: &'a [i64],
}

/// The loss of one document.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DocumentLoss {
    /// Nats, summed over the target tokens.
    pub sum: f64,
    /// Number of target tokens.
    pub tokens: u64,
}

/// Receives one answer; an error ends generation.
pub type OnGenerated<'a> = dyn FnMut(Generated) -> Result<()> + 'a;

/// Decoding options.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// Maximum number of generated tokens.
    pub max_new_tokens: usize,
    /// Stop strings, besides the model's own stop tokens. They are not part of the answer.
    pub stop: Vec<String>,
    /// 0 decodes greedily; above 0, tokens are sampled.
    pub temperature: f32,
    /// Seed of the sampling of every prompt.
    pub seed: u64,
}

impl GenerationOptions {
    /// Greedy decoding.
    #[must_use]
    pub fn greedy(max_new_tokens: usize, stop: &[&str]) -> Self {
        Self {
            max_new_tokens,
            stop: stop.iter().map(|stop| (*stop).to_owned()).collect(),
            temperature: 0.0,
            seed: 0,
        }
    }
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// The text, without stop token or stop string.
    pub text: String,
    /// The tokens of the answer.
    pub token_ids: Vec<u32>,
    /// Whether the model ended the answer itself, rather than reaching the token limit.
    pub finished: bool,
}

/// A prompt with the continuations to score after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipleChoiceItem {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// The candidate answers; none is empty.
    pub continuations: Vec<Vec<u32>>,
}
