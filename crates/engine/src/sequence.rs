//! One sequence in the batch: how much of its prompt is read, its key-value cache, and the task it runs for.

use std::sync::Arc;
use std::time::Instant;

use synapse_nn::{CausalLm, KvCache, LogitsFor, Phase, Sequence};

use crate::FinishReason;
use crate::adapter_registry::AdapterVersion;
use crate::admission::Permit;
use crate::observer::{EngineMetrics, EngineObserver, GaugeGuard};
use crate::prefix::{self, PrefixCache};
use crate::prompt_logprobs;
use crate::queue::QueuedRequest;
use crate::task::Task;
use crate::usage::RequestTiming;

/// A request in the batch. Its permit is released before its end is reported, so that whoever was answered finds the place
/// free; dropping it ends its events.
#[derive(Debug)]
pub(crate) struct RunningSequence {
    prompt: Vec<u32>,
    adapter: Option<AdapterVersion>,
    cache: KvCache,
    timing: RequestTiming,
    task: Task,
    /// Whether the prefix cache was looked up, which happens before the first step.
    started: bool,
    /// `None` once the request has ended.
    permit: Option<Arc<Permit>>,
    _running: GaugeGuard,
}

impl RunningSequence {
    pub(crate) fn new(request: QueuedRequest, model: &dyn CausalLm, metrics: &EngineMetrics) -> Self {
        let running = GaugeGuard::new(&metrics.running);
        drop(request.waiting);
        Self {
            cache: model.new_cache(),
            timing: RequestTiming {
                submitted: request.submitted,
                started: Instant::now(),
                prompt_tokens: request.prompt.len(),
                cached_tokens: 0,
            },
            prompt: request.prompt,
            adapter: request.adapter,
            task: request.task,
            started: false,
            permit: Some(request.permit),
            _running: running,
        }
    }

    /// Whether this sequence should start only after `other` has read its prompt: the two prompts share their first
    /// block, which then need not be read twice.
    pub(crate) fn waits_for(&self, other: &Self) -> bool {
        !self.started
            && self.task.can_use_prefix_cache()
            && other.cache.is_divisible()
            && other.cache.len() < other.prompt.len()
            && prefix::share_first_block(&self.prompt, &other.prompt)
            && self.content_id() == other.content_id()
    }

    /// Restores the cached part of the prompt, before the first step.
    pub(crate) fn start(&mut self, prefixes: &mut PrefixCache, observer: &dyn EngineObserver) {
        if self.started {
            return;
        }
        self.started = true;
        if self.task.can_use_prefix_cache() {
            let content_id = self.adapter.as_ref().map(|version| &version.content_id);
            prefixes.restore(content_id, &self.prompt, &mut self.cache);
        }
        self.timing.started = Instant::now();
        self.timing.cached_tokens = self.cache.len();
        observer.started(self.timing.started - self.timing.submitted, self.timing.cached_tokens);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.task.is_abandoned()
    }

    /// Positions whose keys and values are held.
    pub(crate) fn cached_tokens(&self) -> usize {
        self.cache.len() + self.task.cached_tokens()
    }

    /// Prompt tokens that the next step would read: up to the next multiple of `chunk`, 0 once the prompt is read.
    pub(crate) fn prompt_tokens_next(&self, chunk: usize) -> usize {
        let chunk = if self.wants_prompt_logits() {
            chunk.min(prompt_logprobs::CHUNK)
        } else {
            chunk
        };
        let read = self.cache.len();
        let boundary = (read / chunk + 1) * chunk;
        self.prompt.len().min(boundary).saturating_sub(read)
    }

    fn wants_prompt_logits(&self) -> bool {
        matches!(&self.task, Task::Generate(generation) if generation.wants_prompt_logits())
    }

    /// What the next step reads: one part, or one for each continuation that is scored.
    pub(crate) fn next_parts(&mut self, chunk: usize) -> Vec<Sequence<'_>> {
        let read = self.cache.len();
        let end = read + self.prompt_tokens_next(chunk);
        let adapter = self.adapter.as_ref().map(|version| version.adapter.as_ref());
        let wants_all = self.wants_prompt_logits();
        let (tokens, phase, logits) = match &mut self.task {
            Task::Score(scoring) if end == read => return scoring.parts(adapter),
            Task::Generate(generation) if end == read => (generation.next(), Phase::Decode, LogitsFor::Last),
            Task::Generate(_) if wants_all => (&self.prompt[read..end], Phase::Prefill, LogitsFor::All),
            Task::Embed(_) => (&self.prompt[read..end], Phase::Prefill, LogitsFor::HiddenSum),
            Task::Generate(_) | Task::Score(_) if end < self.prompt.len() => {
                (&self.prompt[read..end], Phase::Prefill, LogitsFor::None)
            }
            Task::Generate(_) | Task::Score(_) => (&self.prompt[read..end], Phase::Prefill, LogitsFor::Last),
        };
        vec![Sequence {
            tokens,
            cache: &mut self.cache,
            phase,
            adapter,
            logits,
        }]
    }

    /// Stores the prompt's keys and values in the prefix cache, once the whole prompt is read and nothing else is.
    pub(crate) fn store_prefix(&self, prefixes: &mut PrefixCache) {
        if self.cache.len() == self.prompt.len() {
            prefixes.store(self.content_id(), &self.prompt, &self.cache);
        }
    }

    /// Takes the step's outputs and sends what can be sent. Returns whether the sequence is complete.
    ///
    /// # Errors
    /// Numbers that are not finite, or a grammar that cannot be followed.
    pub(crate) fn accept(
        &mut self,
        outputs: &mut [f32],
        stop_ids: &[u32],
        observer: &dyn EngineObserver,
    ) -> Result<bool, String> {
        match &mut self.task {
            Task::Generate(generation) => {
                let read = self.cache.len();
                let reason = if read <= self.prompt.len() {
                    generation.accept_prompt(&self.prompt, read, outputs, stop_ids)?
                } else {
                    generation.accept(outputs, stop_ids)?
                };
                generation.report_token(self.timing, observer);
                if let Some(reason) = reason {
                    self.finish(reason, observer);
                }
                Ok(reason.is_some())
            }
            Task::Embed(pooling) => {
                pooling.add(outputs)?;
                let complete = self.cache.len() == self.prompt.len();
                if complete {
                    self.permit = None;
                    pooling.finish();
                }
                Ok(complete)
            }
            Task::Score(scoring) => {
                let complete = scoring.accept(outputs, &self.cache)?;
                if complete {
                    self.permit = None;
                    scoring.finish();
                }
                Ok(complete)
            }
        }
    }

    /// Ends the sequence. Embeddings and scores that are incomplete are dropped.
    pub(crate) fn finish(&mut self, reason: FinishReason, observer: &dyn EngineObserver) {
        self.permit = None;
        if let Task::Generate(generation) = &self.task {
            observer.finished(reason);
            generation.finish(reason, self.timing);
        }
    }

    /// Ends the sequence without a result.
    pub(crate) fn fail(&mut self, message: &str, observer: &dyn EngineObserver) {
        self.permit = None;
        observer.failed();
        self.task.fail(message);
    }

    fn content_id(&self) -> Option<&Arc<str>> {
        self.adapter.as_ref().map(|version| &version.content_id)
    }
}
