//! The engine's thread: which sequences the next forward pass reads, and what happens with its outputs.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};

use synapse_nn::{CausalLm, LogitsFor, Phase, Sequence};

use crate::observer::{EngineMetrics, StepStats};
use crate::prefix::PrefixCache;
use crate::queue::QueuedRequest;
use crate::sequence::RunningSequence;
use crate::{EngineOptions, FinishReason};

/// Owns every sequence; runs until the engine is dropped.
pub(crate) struct Scheduler {
    pub(crate) model: Arc<dyn CausalLm>,
    pub(crate) stop_ids: Vec<u32>,
    pub(crate) options: EngineOptions,
    pub(crate) submitted: Receiver<QueuedRequest>,
    pub(crate) metrics: Arc<EngineMetrics>,
    pub(crate) prefixes: PrefixCache,
    pub(crate) waiting: VecDeque<QueuedRequest>,
    pub(crate) running: Vec<RunningSequence>,
}

impl Scheduler {
    pub(crate) fn run(mut self) {
        while self.receive() {
            self.waiting.retain(|request| !request.task.is_abandoned());
            self.drop_abandoned();
            self.fill_batch();
            if !self.running.is_empty() {
                self.step();
            }
            let cached = self.running.iter().map(RunningSequence::cached_tokens).sum();
            self.metrics.cached_tokens.store(cached, Ordering::Release);
        }
        self.cancel_all();
    }

    /// Takes new requests, blocking if there is nothing else to do. Returns false once the engine is dropped.
    fn receive(&mut self) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            match self.submitted.recv() {
                Ok(request) => self.waiting.push_back(request),
                Err(_) => return false,
            }
        }
        loop {
            match self.submitted.try_recv() {
                Ok(request) => self.waiting.push_back(request),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn drop_abandoned(&mut self) {
        let observer = self.metrics.observer();
        self.running.retain_mut(|sequence| {
            let abandoned = sequence.is_abandoned();
            if abandoned {
                sequence.finish(FinishReason::Cancelled, observer);
            }
            !abandoned
        });
    }

    fn fill_batch(&mut self) {
        while self.running.len() < self.options.max_batch {
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            let sequence = RunningSequence::new(request, self.model.as_ref(), &self.metrics);
            self.running.push(sequence);
        }
    }

    /// Whether an earlier sequence is reading a prefix that this one shares.
    fn waits_for_prefix(&self, index: usize) -> bool {
        let mut earlier = self.running[..index].iter();
        self.prefixes.is_on() && earlier.any(|earlier| self.running[index].waits_for(earlier))
    }

    /// One forward pass: every sequence that is decoding, and prompts in order of arrival up to one chunk of tokens.
    fn step(&mut self) {
        let chunk = self.options.prefill_chunk;
        let mut budget = chunk;
        let waits: Vec<bool> = (0..self.running.len())
            .map(|index| self.waits_for_prefix(index))
            .collect();
        let observer = self.metrics.observer();
        let mut parts = Vec::with_capacity(self.running.len());
        let mut batch: Vec<Sequence<'_>> = Vec::with_capacity(self.running.len());
        let mut stats = StepStats {
            sequences: 0,
            prompt_tokens: 0,
            generated_tokens: 0,
        };
        for (index, sequence) in self.running.iter_mut().enumerate() {
            if waits[index] {
                continue;
            }
            sequence.start(&mut self.prefixes, observer);
            // The first prompt always fits: a chunk is at most the whole budget.
            if let Some(left) = budget.checked_sub(sequence.prompt_tokens_next(chunk)) {
                budget = left;
                for part in sequence.next_parts(chunk) {
                    stats.sequences += 1;
                    match part.phase {
                        Phase::Prefill => stats.prompt_tokens += part.tokens.len(),
                        Phase::Decode => stats.generated_tokens += part.tokens.len(),
                    }
                    parts.push((index, part.logits));
                    batch.push(part);
                }
            }
        }
        // A panic of the model ends the requests of this batch, not the process.
        let model = &self.model;
        let result = catch_unwind(AssertUnwindSafe(|| model.forward(&mut batch)));
        drop(batch);
        observer.step(stats);

        let rows = match result {
            Ok(Ok(rows)) if rows.len() == parts.len() => rows,
            Ok(Ok(rows)) => {
                let message = format!("the model gave results for {} of {} sequences", rows.len(), parts.len());
                return self.fail(&parts, &message);
            }
            Ok(Err(error)) => return self.fail(&parts, &error.to_string()),
            Err(_) => return self.fail(&parts, "the model panicked"),
        };
        let mut complete = Vec::new();
        for (&(index, requested), mut outputs) in parts.iter().zip(rows) {
            // The other parts of a sequence that failed are ignored.
            if requested == LogitsFor::None || complete.last() == Some(&index) {
                continue;
            }
            let sequence = &mut self.running[index];
            sequence.store_prefix(&mut self.prefixes);
            match catch_unwind(AssertUnwindSafe(|| {
                sequence.accept(&mut outputs, &self.stop_ids, observer)
            })) {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => complete.push(index),
                Ok(Err(message)) => {
                    sequence.fail(&message, observer);
                    complete.push(index);
                }
                Err(_) => {
                    sequence.fail("sampling panicked", observer);
                    complete.push(index);
                }
            }
        }
        self.remove(&complete);
    }

    /// Ends the sequences of a step that failed; their caches are in an unknown state.
    fn fail(&mut self, parts: &[(usize, LogitsFor)], message: &str) {
        let mut indices: Vec<usize> = parts.iter().map(|&(index, _)| index).collect();
        indices.dedup();
        for &index in &indices {
            self.running[index].fail(message, self.metrics.observer());
        }
        self.remove(&indices);
    }

    /// Takes sequences out of the batch, keeping the others in order. `indices` ascend.
    fn remove(&mut self, indices: &[usize]) {
        for &index in indices.iter().rev() {
            self.running.remove(index);
        }
    }

    fn cancel_all(&mut self) {
        // Requests that arrived since the last step are cancelled as well.
        self.waiting.extend(self.submitted.try_iter());
        for mut sequence in self.running.drain(..) {
            sequence.finish(FinishReason::Cancelled, self.metrics.observer());
        }
        self.waiting.drain(..).for_each(QueuedRequest::cancel);
    }
}
