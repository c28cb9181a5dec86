//! The engine's thread: who takes part in the next forward pass, and what becomes of its logits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};

use synapse_nn::{CausalLm, LogitsFor, Phase, Sequence};
use synapse_tokenizer::Chat;

use crate::observer::{Step, Watch};
use crate::prefix::PrefixCache;
use crate::sequence::{Job, Running};
use crate::{EngineOptions, FinishReason};

/// Owns every sequence; runs until the engine is dropped.
pub(crate) struct Scheduler {
    pub(crate) model: Arc<dyn CausalLm>,
    pub(crate) chat: Chat,
    pub(crate) options: EngineOptions,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) prefixes: PrefixCache,
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) running: Vec<Running>,
}

impl Scheduler {
    pub(crate) fn run(mut self) {
        while self.receive() {
            self.waiting.retain(|job| !job.is_abandoned());
            self.drop_abandoned();
            self.fill_batch();
            if !self.running.is_empty() {
                self.step();
            }
            let cached = self.running.iter().map(Running::cached_tokens).sum();
            self.watch.cached_tokens.store(cached, Ordering::Release);
        }
        self.cancel_all();
    }

    /// Takes in what has arrived, waiting for it when there is nothing else to do; false once the engine is gone.
    fn receive(&mut self) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() {
            match self.jobs.recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(_) => return false,
            }
        }
        loop {
            match self.jobs.try_recv() {
                Ok(job) => self.waiting.push_back(job),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn drop_abandoned(&mut self) {
        let observer = self.watch.observer();
        self.running.retain(|sequence| {
            let abandoned = sequence.is_abandoned();
            if abandoned {
                sequence.finish(FinishReason::Cancelled, observer);
            }
            !abandoned
        });
    }

    fn fill_batch(&mut self) {
        while self.running.len() < self.options.max_batch {
            let Some(job) = self.waiting.pop_front() else {
                return;
            };
            let running = Running::new(job, self.model.as_ref(), &self.chat, &self.watch);
            self.running.push(running);
        }
    }

    /// Whether an earlier sequence is just reading what this one begins with.
    fn is_held(&self, index: usize) -> bool {
        let mut earlier = self.running[..index].iter();
        self.prefixes.is_on() && earlier.any(|earlier| self.running[index].waits_for(earlier))
    }

    /// One forward pass: every sequence that is answering, and prompts in order of arrival as far as one
    /// chunk's worth of tokens goes.
    fn step(&mut self) {
        let chunk = self.options.prefill_chunk;
        let mut budget = chunk;
        let held: Vec<bool> = (0..self.running.len()).map(|index| self.is_held(index)).collect();
        let observer = self.watch.observer();
        let mut taking_part = Vec::with_capacity(self.running.len());
        let mut batch: Vec<Sequence<'_>> = Vec::with_capacity(self.running.len());
        let mut report = Step {
            sequences: 0,
            prompt_tokens: 0,
            generated_tokens: 0,
        };
        for (index, sequence) in self.running.iter_mut().enumerate() {
            if held[index] {
                continue;
            }
            sequence.begin(&mut self.prefixes, observer);
            // The first prompt always fits: a chunk is at most the whole budget.
            if let Some(left) = budget.checked_sub(sequence.prompt_tokens_next(chunk)) {
                budget = left;
                for part in sequence.step(chunk) {
                    report.sequences += 1;
                    match part.phase {
                        Phase::Prefill => report.prompt_tokens += part.tokens.len(),
                        Phase::Decode => report.generated_tokens += part.tokens.len(),
                    }
                    taking_part.push((index, part.logits));
                    batch.push(part);
                }
            }
        }
        // A model that panics must not take the other requests of this process with it.
        let model = &self.model;
        let result = catch_unwind(AssertUnwindSafe(|| model.forward(&mut batch)));
        drop(batch);
        observer.step(report);

        let rows = match result {
            Ok(Ok(rows)) if rows.len() == taking_part.len() => rows,
            Ok(Ok(rows)) => {
                let message = format!(
                    "the model gave results for {} of {} sequences",
                    rows.len(),
                    taking_part.len()
                );
                return self.fail(&taking_part, &message);
            }
            Ok(Err(error)) => return self.fail(&taking_part, &error.to_string()),
            Err(_) => return self.fail(&taking_part, "the model panicked"),
        };
        let stop_ids = self.chat.stop_ids();
        let mut complete = Vec::new();
        for (&(index, asked), mut outputs) in taking_part.iter().zip(rows) {
            // Of a sequence that failed the other parts say nothing.
            if asked == LogitsFor::None || complete.last() == Some(&index) {
                continue;
            }
            let sequence = &mut self.running[index];
            sequence.keep_prompt(&mut self.prefixes);
            match catch_unwind(AssertUnwindSafe(|| sequence.accept(&mut outputs, stop_ids, observer))) {
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
    fn fail(&mut self, taking_part: &[(usize, LogitsFor)], message: &str) {
        let mut indices: Vec<usize> = taking_part.iter().map(|&(index, _)| index).collect();
        indices.dedup();
        for &index in &indices {
            self.running[index].fail(message, self.watch.observer());
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
        // What arrived after the last look is cancelled as well.
        self.waiting.extend(self.jobs.try_iter());
        for sequence in self.running.drain(..) {
            sequence.finish(FinishReason::Cancelled, self.watch.observer());
        }
        self.waiting.drain(..).for_each(Job::cancel);
    }
}
