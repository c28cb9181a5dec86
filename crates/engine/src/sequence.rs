//! One request while it runs: its place in the prompt, its cache, its sampler and its text.

use std::sync::Arc;
use std::time::Instant;

use synapse_chat::Chat;
use synapse_nn::{Adapter, CausalLm, KvCache, LogitsFor, Role, Sequence};
use tokio::sync::mpsc::UnboundedSender;

use crate::admission::Permits;
use crate::sampler::Sampler;
use crate::text::{Piece, TextStream};
use crate::{Event, FinishReason, SamplingOptions, Timings, Usage};

/// An accepted request that waits for a place in the batch. Its adapter is resolved: replacing the
/// adapter under that name does not touch it any more.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    pub(crate) sampling: SamplingOptions,
    pub(crate) adapter: Option<Arc<Adapter>>,
    pub(crate) events: UnboundedSender<Event>,
    /// Its place, given back when this is dropped.
    pub(crate) _permit: Permits,
    pub(crate) submitted: Instant,
}

impl Job {
    /// Whether nobody waits for the answer any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }
}

/// A request in the batch. Dropping it gives its place back and ends its events.
#[derive(Debug)]
pub(crate) struct Running {
    job: Job,
    cache: KvCache,
    sampler: Sampler,
    text: TextStream,
    /// The token sampled last, which the next step reads.
    next: [u32; 1],
    generated: usize,
    started: Instant,
    first_token: Option<Instant>,
}

impl Running {
    pub(crate) fn new(job: Job, model: &dyn CausalLm, chat: &Chat) -> Self {
        Self {
            cache: model.new_cache(),
            sampler: Sampler::new(&job.sampling, &job.prompt),
            text: TextStream::new(chat.detokenizer(), &job.sampling.stop),
            next: [0],
            generated: 0,
            started: Instant::now(),
            first_token: None,
            job,
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.job.is_abandoned()
    }

    /// Prompt tokens that the next step would read: up to the next multiple of `chunk`, 0 when answering.
    pub(crate) fn prompt_tokens_next(&self, chunk: usize) -> usize {
        let read = self.cache.len();
        let border = (read / chunk + 1) * chunk;
        self.job.prompt.len().min(border).saturating_sub(read)
    }

    /// What the next step reads of this sequence, and whether it gives a token.
    pub(crate) fn step(&mut self, chunk: usize) -> Sequence<'_> {
        let read = self.cache.len();
        let prompt_tokens = self.prompt_tokens_next(chunk);
        let (tokens, role, logits) = if prompt_tokens == 0 {
            (&self.next[..], Role::Generated, LogitsFor::Last)
        } else {
            let end = read + prompt_tokens;
            let logits = if end == self.job.prompt.len() {
                LogitsFor::Last
            } else {
                LogitsFor::None
            };
            (&self.job.prompt[read..end], Role::Prompt, logits)
        };
        Sequence {
            tokens,
            cache: &mut self.cache,
            role,
            adapter: self.job.adapter.as_deref(),
            logits,
        }
    }

    /// Samples from the step's logits and sends what may be shown; gives whether the answer is complete.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(crate) fn accept(&mut self, logits: &mut [f32], stop_ids: &[u32]) -> Result<bool, String> {
        let options = &self.job.sampling;
        let sampled = self.sampler.sample(options, logits)?;
        self.first_token.get_or_insert_with(Instant::now);
        self.generated += 1;
        self.next = [sampled.id];

        if !options.ignore_eos && stop_ids.contains(&sampled.id) {
            let pieces = self.text.end(sampled.id);
            self.send(pieces);
            self.finish(FinishReason::Stop);
            return Ok(true);
        }
        let last = self.generated == options.max_tokens;
        let (pieces, stopped) = self.text.push(sampled.id, sampled.logprob, last);
        self.send(pieces);
        if stopped {
            self.finish(FinishReason::Stop);
        } else if last {
            self.finish(FinishReason::Length);
        }
        Ok(stopped || last)
    }

    /// Ends the answer.
    pub(crate) fn finish(&self, reason: FinishReason) {
        let usage = Usage {
            prompt_tokens: self.job.prompt.len(),
            completion_tokens: self.generated,
        };
        let first = self.first_token.unwrap_or_else(Instant::now);
        let timings = Timings::new(
            self.started - self.job.submitted,
            first - self.started,
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
        let _ = self.job.events.send(event);
    }
}
