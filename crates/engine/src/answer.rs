//! One answer while it grows: its sampler, its grammar, its text, and the events it sends.

use std::time::Instant;

use synapse_tokenizer::Chat;
use tokio::sync::mpsc::UnboundedSender;

use crate::observer::Observer;
use crate::sampler::Sampler;
use crate::sequence::Origin;
use crate::text::{Piece, TextStream};
use crate::{Constraint, Event, FinishReason, SamplingOptions, Timings, Usage};

/// What an answer must be like and where it goes.
#[derive(Debug)]
pub(crate) struct AnswerOrder {
    pub(crate) sampling: SamplingOptions,
    pub(crate) constraint: Option<Constraint>,
    pub(crate) events: UnboundedSender<Event>,
}

/// An answer that is being generated.
#[derive(Debug)]
pub(crate) struct Answer {
    order: Box<AnswerOrder>,
    sampler: Sampler,
    text: TextStream,
    /// The token sampled last, which the next step reads.
    next: [u32; 1],
    generated: usize,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

impl Answer {
    pub(crate) fn new(order: Box<AnswerOrder>, prompt: &[u32], chat: &Chat) -> Self {
        Self {
            sampler: Sampler::new(&order.sampling, prompt),
            text: TextStream::new(chat.detokenizer(), &order.sampling.stop),
            next: [0],
            generated: 0,
            first_token: None,
            last_token: None,
            order,
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.order.events.is_closed()
    }

    /// What the next step reads.
    pub(crate) fn next(&self) -> &[u32] {
        &self.next
    }

    /// Samples from the step's logits and sends what may be shown; gives why the answer is complete, if it is.
    ///
    /// # Errors
    /// Logits that are not finite, or a grammar that cannot be followed.
    pub(crate) fn accept(&mut self, logits: &mut [f32], stop_ids: &[u32]) -> Result<Option<FinishReason>, String> {
        let AnswerOrder {
            sampling, constraint, ..
        } = self.order.as_mut();
        let sampled = self.sampler.sample(sampling, constraint.as_mut(), logits)?;
        let complete = match constraint {
            Some(constraint) => constraint.accept(sampled.id)?,
            None => false,
        };
        self.generated += 1;
        self.next = [sampled.id];
        if !sampling.ignore_eos && stop_ids.contains(&sampled.id) {
            let pieces = self.text.end(sampled.id);
            self.send(pieces);
            return Ok(Some(FinishReason::Stop));
        }
        let full = self.generated == sampling.max_tokens;
        let (pieces, stopped) = self.text.push(sampled.id, sampled.logprob, full || complete);
        self.send(pieces);
        Ok(match (stopped || complete, full) {
            (true, _) => Some(FinishReason::Stop),
            (false, true) => Some(FinishReason::Length),
            (false, false) => None,
        })
    }

    /// Tells how long the token took that was sampled just now.
    pub(crate) fn report_token(&mut self, origin: Origin, observer: &dyn Observer) {
        let now = Instant::now();
        match self.last_token {
            None => observer.first_token(now - origin.submitted),
            Some(last) => observer.next_token(now - last),
        }
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
    }

    /// Ends the answer.
    pub(crate) fn finish(&self, reason: FinishReason, origin: Origin) {
        let usage = Usage {
            prompt_tokens: origin.prompt_tokens,
            cached_tokens: origin.cached_tokens,
            completion_tokens: self.generated,
        };
        let first = self.first_token.unwrap_or_else(Instant::now);
        let timings = Timings::new(
            origin.started - origin.submitted,
            first - origin.started,
            first.elapsed(),
            usage,
        );
        self.emit(Event::Done { reason, usage, timings });
    }

    /// Ends the request without an answer.
    pub(crate) fn fail(&self, message: &str) {
        self.emit(Event::Failed(message.to_owned()));
    }

    fn send(&self, pieces: Vec<Piece>) {
        for Piece { id, text, logprob } in pieces {
            self.emit(Event::Token { id, text, logprob });
        }
    }

    /// A receiver that is gone is noticed before the next step.
    fn emit(&self, event: Event) {
        let _ = self.order.events.send(event);
    }
}
