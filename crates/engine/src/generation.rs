//! One completion while it grows: its sampler, its grammar, its text, and the events it sends.

use std::time::{Duration, Instant};

use synapse_tokenizer::ChatTokenizer;
use tokio::sync::mpsc::UnboundedSender;

use crate::observer::EngineObserver;
use crate::prompt_logprobs::PromptLogprobs;
use crate::sampler::Sampler;
use crate::text::TextStream;
use crate::usage::RequestTiming;
use crate::{Constraint, Event, Finish, FinishReason, SamplingOptions, Timings, Token, Usage};

/// A completion that is being generated, or that waits for its first step.
#[derive(Debug)]
pub(crate) struct Generation {
    sampling: SamplingOptions,
    constraint: Option<Constraint>,
    events: UnboundedSender<Event>,
    sampler: Sampler,
    text: TextStream,
    /// Until the prompt is read, if they were requested.
    prompt_logprobs: Option<PromptLogprobs>,
    /// The token sampled last, which the next step reads.
    next: [u32; 1],
    generated: usize,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Generation {
    pub(crate) fn new(
        prompt: &[u32],
        sampling: SamplingOptions,
        constraint: Option<Constraint>,
        events: UnboundedSender<Event>,
        chat: &ChatTokenizer,
    ) -> Self {
        Self {
            sampler: Sampler::new(&sampling, prompt),
            text: TextStream::new(chat.detokenizer(), &sampling.stop),
            prompt_logprobs: sampling.prompt_logprobs.map(PromptLogprobs::new),
            next: [0],
            generated: 0,
            first_token: None,
            last_token: None,
            sampling,
            constraint,
            events,
        }
    }

    /// Whether the receiver was dropped.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// What the next step reads.
    pub(crate) fn next(&self) -> &[u32] {
        &self.next
    }

    /// Whether the logits of the prompt are still wanted.
    pub(crate) fn wants_prompt_logits(&self) -> bool {
        self.prompt_logprobs.is_some()
    }

    /// Takes a step's logits of the prompt: of all positions up to `read` if they are wanted, otherwise of the last. Samples
    /// once the prompt is read, as [`Self::accept`].
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub(crate) fn accept_prompt(
        &mut self,
        prompt: &[u32],
        read: usize,
        logits: &mut [f32],
        stop_ids: &[u32],
    ) -> Result<Option<FinishReason>, String> {
        let Some(of_prompt) = &mut self.prompt_logprobs else {
            return self.accept(logits, stop_ids);
        };
        let Some(last) = of_prompt.accept(prompt, read, logits)? else {
            return Ok(None);
        };
        let logprobs = of_prompt.take();
        self.prompt_logprobs = None;
        self.emit(Event::PromptLogprobs(logprobs));
        if self.sampling.max_tokens == 0 {
            return Ok(Some(FinishReason::Length));
        }
        self.accept(last, stop_ids)
    }

    /// Samples from the step's logits and sends the text that is decided. Returns why the completion has ended, if it
    /// has.
    ///
    /// # Errors
    /// Logits that are not finite, or a grammar that cannot be followed.
    pub(crate) fn accept(&mut self, logits: &mut [f32], stop_ids: &[u32]) -> Result<Option<FinishReason>, String> {
        let token = self.sampler.sample(&self.sampling, self.constraint.as_mut(), logits)?;
        let complete = match &mut self.constraint {
            Some(constraint) => constraint.accept(token.id)?,
            None => false,
        };
        self.generated += 1;
        self.next = [token.id];
        if !self.sampling.ignore_eos && stop_ids.contains(&token.id) {
            let logprob = token.logprob.filter(|_| self.sampling.prompt_logprobs.is_some());
            let tokens = self.text.end(token.id, logprob);
            self.send(tokens);
            return Ok(Some(FinishReason::Stop));
        }
        let full = self.generated == self.sampling.max_tokens;
        let (tokens, stopped) = self.text.push(token, full || complete);
        self.send(tokens);
        Ok(match (stopped || complete, full) {
            (true, _) => Some(FinishReason::Stop),
            (false, true) => Some(FinishReason::Length),
            (false, false) => None,
        })
    }

    /// Tells the observer how long the token took that was just sampled, if one was.
    pub(crate) fn report_token(&mut self, timing: RequestTiming, observer: &dyn EngineObserver) {
        if self.generated == 0 {
            return;
        }
        let now = Instant::now();
        match self.last_token {
            None => observer.first_token(now - timing.submitted),
            Some(last) => observer.next_token(now - last),
        }
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
    }

    /// Ends the completion.
    pub(crate) fn finish(&self, reason: FinishReason, timing: RequestTiming) {
        let usage = Usage {
            prompt_tokens: timing.prompt_tokens,
            cached_tokens: timing.cached_tokens,
            completion_tokens: self.generated,
        };
        let first = self.first_token.unwrap_or_else(Instant::now);
        let timings = Timings::new(
            timing.started - timing.submitted,
            first - timing.started,
            first.elapsed(),
            usage,
        );
        self.emit(Event::Done(Finish { reason, usage, timings }));
    }

    /// Ends a completion that never had a step.
    pub(crate) fn cancel(&self, prompt_tokens: usize, queued: Duration) {
        let usage = Usage {
            prompt_tokens,
            ..Usage::default()
        };
        let timings = Timings {
            queued_seconds: queued.as_secs_f64(),
            ..Timings::default()
        };
        let reason = FinishReason::Cancelled;
        self.emit(Event::Done(Finish { reason, usage, timings }));
    }

    /// Ends the request without a completion.
    pub(crate) fn fail(&self, message: &str) {
        self.emit(Event::Failed(message.to_owned()));
    }

    fn send(&self, tokens: Vec<Token>) {
        for token in tokens {
            self.emit(Event::Token(token));
        }
    }

    /// A dropped receiver is noticed before the next step.
    fn emit(&self, event: Event) {
        let _ = self.events.send(event);
    }
}
