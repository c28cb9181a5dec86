//! The one view of a model that suites have.
//!
//! Base, specialists and merge are measured through this trait and nothing else, so a difference between two of
//! them can only come from the model. It says nothing of devices, adapters or files.

use serde::{Deserialize, Serialize};
use synapse_tokenizer::ChatTokenizer;

use crate::Result;

/// A model under test.
pub trait Subject {
    /// The name its results are shown under, such as `base`, `math` or `merge`.
    fn name(&self) -> &str;

    /// The tokenizer and template it is asked through.
    fn chat(&self) -> &ChatTokenizer;

    /// Positions the model has, prompt and answer together; `None` where there is no bound.
    fn max_positions(&self) -> Option<usize> {
        None
    }

    /// Whether the user asked to stop: looked at between pieces of work that are not the model's.
    fn is_stopped(&self) -> bool {
        false
    }

    /// Summed cross-entropy of each row, in nats; one document a row, no context shared between rows.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Subject`] when the model fails.
    fn losses(&mut self, rows: &[PackedLoss<'_>]) -> Result<Vec<RowLoss>>;

    /// Continues every prompt and hands each answer to `each` as soon as it and all before it are there: in the
    /// prompts' order, without the token that ended it. The prompts are one batch, however many they are.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Subject`] when the model fails; an error of `each` ends the work and comes back.
    fn generate(&mut self, prompts: &[Vec<u32>], options: &Generation, each: &mut Each<'_>) -> Result<()>;

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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RowLoss {
    /// Nats, summed over the counted tokens.
    pub sum: f64,
    /// How many tokens were counted.
    pub tokens: u64,
}

/// Takes one answer; an error asks for no more.
pub type Each<'a> = dyn FnMut(Generated) -> Result<()> + 'a;

/// How to continue prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Stop after this many tokens.
    pub max_new_tokens: usize,
    /// Texts that end an answer, besides the model's own stop tokens; they are not part of it.
    pub stop: Vec<String>,
    /// 0 takes the likeliest token; above, tokens are drawn.
    pub temperature: f32,
    /// Seeds the drawing of every prompt's tokens.
    pub seed: u64,
}

impl Generation {
    /// The likeliest token each time.
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
