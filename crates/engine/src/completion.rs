//! The events of one request, and the whole completion they add up to.

use std::task::{Context, Poll};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::{EngineError, Event, Finish, FinishReason, Result, Timings, Token, TokenLogprob, Usage};

/// Receives the events of one request: the prompt's log-probabilities if requested, tokens, then exactly one of
/// [`Event::Done`] and [`Event::Failed`].
///
/// It can be awaited, polled or read from a blocking thread. Dropping it cancels the request within a step. The channel
/// is unbounded, but never holds many more than `max_tokens` events.
#[derive(Debug)]
pub struct EventReceiver(UnboundedReceiver<Event>);

impl EventReceiver {
    pub(crate) fn new(events: UnboundedReceiver<Event>) -> Self {
        Self(events)
    }

    /// Waits for the next event; `None` after the last one.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// [`Self::recv`] on a thread that may block.
    pub fn blocking_recv(&mut self) -> Option<Event> {
        self.0.blocking_recv()
    }

    /// [`Self::recv`] for a hand-written future or stream.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_recv(context)
    }

    /// Waits for the whole completion on a thread that may block.
    ///
    /// # Errors
    /// [`EngineError::Failed`] if the model failed, [`EngineError::Stopped`] if the engine's thread has ended.
    pub fn blocking_collect(mut self) -> Result<Completion> {
        let (mut tokens, mut prompt_logprobs) = (Vec::new(), Vec::new());
        loop {
            match self.blocking_recv() {
                Some(Event::PromptLogprobs(logprobs)) => prompt_logprobs = logprobs,
                Some(Event::Token(token)) => tokens.push(token),
                Some(Event::Done(finish)) => {
                    return Ok(Completion {
                        prompt_logprobs,
                        ..Completion::new(tokens, finish)
                    });
                }
                Some(Event::Failed(message)) => return Err(EngineError::Failed(message)),
                None => return Err(EngineError::Stopped),
            }
        }
    }
}

/// A whole completion, as [`crate::Engine::generate`] returns it.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The text, without stop strings and stop tokens.
    pub text: String,
    /// The tokens, including the stop token that ended it, if one did.
    pub tokens: Vec<Token>,
    /// The log-probabilities of the prompt's tokens except the first, if requested.
    pub prompt_logprobs: Vec<TokenLogprob>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens read and generated.
    pub usage: Usage,
    /// How long it took.
    pub timings: Timings,
}

impl Completion {
    /// The completion that these tokens and this end add up to.
    #[must_use]
    pub fn new(tokens: Vec<Token>, finish: Finish) -> Self {
        Self {
            text: tokens.iter().map(|token| token.text.as_str()).collect(),
            tokens,
            prompt_logprobs: Vec::new(),
            finish_reason: finish.reason,
            usage: finish.usage,
            timings: finish.timings,
        }
    }

    /// The ids of the tokens.
    #[must_use]
    pub fn token_ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}
