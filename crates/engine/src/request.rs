//! What goes into the engine and what comes out: a request, then a stream of tokens that ends with the reason.

use serde::Serialize;

use crate::{Constraint, SamplingOptions, Timings, Usage};

/// One prompt to continue.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// How to sample and when to stop.
    pub sampling: SamplingOptions,
    /// The adapter to run under, by name; `None` is the base model.
    pub adapter: Option<String>,
    /// The grammar that the completion follows, from [`crate::Engine::compile`]; `None` for free text.
    pub constraint: Option<Constraint>,
}

impl Request {
    /// A request to the base model, without a grammar.
    #[must_use]
    pub fn new(prompt: Vec<u32>, sampling: SamplingOptions) -> Self {
        Self {
            prompt,
            sampling,
            adapter: None,
            constraint: None,
        }
    }
}

/// One step of a completion. The texts of all tokens, joined, are the completion's text.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The prompt was read, if its log-probabilities were requested: those of each of its tokens except the first.
    PromptLogprobs(Vec<TokenLogprob>),
    /// A token was generated.
    ///
    /// A token whose text may be part of a stop string arrives late, once that is decided. Tokens of a stop string that
    /// completes never arrive.
    Token(Token),
    /// The completion has ended.
    Done(Finish),
    /// The model failed; the message says how.
    Failed(String),
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The text it adds: empty for a stop token, and while a multi-byte character is incomplete.
    pub text: String,
    /// Its log-probability, if requested; that of the stop token that ends a completion only with those of the prompt.
    pub logprob: Option<TokenLogprob>,
}

/// How a completion ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// Tokens read and generated.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// A stop token or a stop string.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The engine was dropped.
    Cancelled,
}

/// A token's log-probability under the model, in nats.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The chosen token's.
    pub logprob: f32,
    /// The most likely tokens, best first, ties to the lowest id; the requested number of them.
    pub top: Vec<(u32, f32)>,
}
