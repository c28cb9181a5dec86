//! What a request asks for: a completion, an embedding, or scores of continuations.

use crate::embedding::Pooling;
use crate::generation::Generation;
use crate::scoring::Scoring;

/// What a request asks for, with its progress. It is made when the request is submitted and runs unchanged.
#[derive(Debug)]
pub(crate) enum Task {
    Generate(Box<Generation>),
    Embed(Pooling),
    Score(Scoring),
}

impl Task {
    /// Whether the receiver of the result was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        match self {
            Self::Generate(generation) => generation.is_abandoned(),
            Self::Embed(pooling) => pooling.is_abandoned(),
            Self::Score(scoring) => scoring.is_abandoned(),
        }
    }

    /// Whether cached keys and values of the prompt suffice. An embedding needs the hidden states of every token, and the
    /// prompt's log-probabilities the logits, which are not cached.
    pub(crate) fn can_use_prefix_cache(&self) -> bool {
        match self {
            Self::Generate(generation) => !generation.wants_prompt_logits(),
            Self::Score(_) => true,
            Self::Embed(_) => false,
        }
    }

    /// Positions held in addition to the prompt's own cache.
    pub(crate) fn cached_tokens(&self) -> usize {
        match self {
            Self::Score(scoring) => scoring.cached_tokens(),
            Self::Generate(_) | Self::Embed(_) => 0,
        }
    }

    /// Ends the task without a result.
    pub(crate) fn fail(&mut self, message: &str) {
        match self {
            Self::Generate(generation) => generation.fail(message),
            Self::Embed(pooling) => pooling.fail(message),
            Self::Score(scoring) => scoring.fail(message),
        }
    }
}
