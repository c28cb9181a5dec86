//! What one request took: its tokens, durations and rates.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens in the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: usize,
    /// Tokens generated, including the stop token and the tokens of a stop string.
    pub completion_tokens: usize,
}

/// Durations and rates of one request.
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
    /// The rates follow from the three durations.
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

/// Timestamps of a request, the length of its prompt, and how much of the prompt was cached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestTiming {
    pub(crate) submitted: Instant,
    pub(crate) started: Instant,
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_tokens: usize,
}
