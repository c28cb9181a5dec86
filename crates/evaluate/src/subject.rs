//! The one view of a model that suites have.
//!
//! Base, specialists and merge are measured through this trait and nothing else, so a difference between two of
//! them can only come from the model. It says nothing of devices, adapters or files.

use synapse_chat::Chat;

use crate::Result;

/// A model under test.
pub trait Subject {
    /// The name its results are shown under, such as `base`, `math` or `merge`.
    fn name(&self) -> &str;

    /// The tokenizer and template it is asked through.
    fn chat(&self) -> &Chat;

    /// Positions the model has, prompt and answer together; `None` where there is no bound.
    fn max_positions(&self) -> Option<usize> {
        None
    }

    /// Summed cross-entropy of each row, in nats; one document a row, no context shared between rows.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Subject`] when the model fails.
    fn losses(&mut self, rows: &[PackedLoss<'_>]) -> Result<Vec<RowLoss>>;

    /// Greedy continuations of each prompt, in order, without the token that ended them.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Subject`] when the model fails.
    fn generate(&mut self, prompts: &[Vec<u32>], options: &Generation) -> Result<Vec<Generated>>;

    /// Summed log-probability (nats) of each continuation after its prompt: one list an item, in order.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Subject`] when the model fails.
    fn score(&mut self, items: &[Choices]) -> Result<Vec<Vec<f64>>>;
}

/// One document whose loss is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PackedLoss<'a> {
    /// Token ids.
    pub input_ids: &'a [u32],
    /// As long as `input_ids` and aligned with it (not shifted); −100 where a token is not counted.
    pub labels: &'a [i64],
}

/// The loss of one document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowLoss {
    /// Nats, summed over the counted tokens.
    pub sum: f64,
    /// How many tokens were counted.
    pub tokens: u64,
}

/// How to continue prompts; decoding is always greedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Stop after this many tokens.
    pub max_new_tokens: usize,
    /// Texts that end an answer, besides the model's own stop tokens; they are not part of it.
    pub stop: Vec<String>,
}

/// One greedy continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The text, without stop token or stop string.
    pub text: String,
    /// The tokens of the answer.
    pub token_ids: Vec<u32>,
    /// Whether the model ended the answer itself, rather than running out of room.
    pub finished: bool,
}

/// One prompt with the continuations to be scored after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choices {
    /// The tokens before.
    pub prompt: Vec<u32>,
    /// The candidate answers; none is empty.
    pub continuations: Vec<Vec<u32>>,
}
