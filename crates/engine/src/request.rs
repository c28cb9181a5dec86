//! What goes into the engine and what comes out.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::{Constraint, SamplingOptions};

/// One prompt to continue.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// How to sample and when to end.
    pub sampling: SamplingOptions,
    /// The adapter to run under, by name; `None` is the bare base.
    pub adapter: Option<String>,
    /// The grammar that the answer follows, from [`crate::Engine::compile`]; `None` lets it say anything.
    pub constraint: Option<Constraint>,
}

/// What a request's receiver gets: tokens, then exactly one of `Done` and `Failed`.
///
/// The receiver can be awaited or read with `blocking_recv`; dropping it cancels the request within a step.
/// The channel is unbounded, but holds no more than `max_tokens` events.
pub type Receiver = UnboundedReceiver<Event>;

/// One step of an answer. The texts of all `Token` events, joined, are the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A token was generated.
    ///
    /// Tokens whose text may yet turn out to belong to a stop string arrive late, once that is decided, and
    /// tokens of a stop string that completes never arrive.
    Token {
        /// Its id.
        id: u32,
        /// The text it adds: empty while a character is incomplete, and for a stop token.
        text: String,
        /// Its log-probability, where asked for; never for the stop token that ends the answer.
        logprob: Option<TokenLogprob>,
    },
    /// The answer is complete.
    Done {
        /// Why it ended.
        reason: FinishReason,
        /// Tokens read and generated.
        usage: Usage,
        /// How long it took.
        timings: Timings,
    },
    /// The model failed; the message says how.
    Failed(String),
}

/// Why an answer ended.
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
    /// The most likely tokens, best first, ties to the lowest id; as many as were asked for.
    pub top: Vec<(u32, f32)>,
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens in the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were not read again, because an earlier prompt began alike.
    pub cached_tokens: usize,
    /// Tokens generated, with the stop token and the tokens of a stop string.
    pub completion_tokens: usize,
}

/// Where the time of one request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Timings {
    /// Seconds between submission and the first step.
    pub queued_seconds: f64,
    /// Seconds from the first step to the first token.
    pub prefill_seconds: f64,
    /// Seconds from the first token to the last.
    pub decode_seconds: f64,
    /// Prompt tokens per second of prefill.
    pub prefill_tokens_per_second: f64,
    /// Tokens after the first per second of decoding; 0 for a single token.
    pub decode_tokens_per_second: f64,
}

impl Timings {
    /// The rates that follow from the three spans.
    pub(crate) fn new(queued: Duration, prefill: Duration, decode: Duration, usage: Usage) -> Self {
        let rate = |tokens: usize, span: Duration| {
            if tokens == 0 || span.is_zero() {
                0.0
            } else {
                tokens as f64 / span.as_secs_f64()
            }
        };
        Self {
            queued_seconds: queued.as_secs_f64(),
            prefill_seconds: prefill.as_secs_f64(),
            decode_seconds: decode.as_secs_f64(),
            prefill_tokens_per_second: rate(usage.prompt_tokens, prefill),
            decode_tokens_per_second: rate(usage.completion_tokens.saturating_sub(1), decode),
        }
    }
}

/// A whole answer, as [`crate::Engine::generate`] returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The answer without stop strings and stop tokens.
    pub text: String,
    /// Its tokens, with the stop token that ended it, if one did.
    pub token_ids: Vec<u32>,
    /// Per token, where asked for.
    pub logprobs: Vec<Option<TokenLogprob>>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens read and generated.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
}
