//! One sequence while it runs: its place in the prompt, its cache, and what is made of it: an answer, an embedding, or
//! scores of continuations.

use std::sync::Arc;
use std::time::Instant;

use synapse_nn::{CausalLm, KvCache, LogitsFor, Phase, Sequence};
use synapse_tokenizer::Chat;
use tokio::sync::oneshot;

use crate::adapters::Bound;
use crate::admission::Permits;
use crate::answer::{Answer, AnswerOrder};
use crate::embedding::Pooling;
use crate::observer::{Counted, Observer, Watch};
use crate::prefix::{self, PrefixCache};
use crate::scoring::{ScoreOrder, Scoring};
use crate::{Event, FinishReason, Result, Timings, Usage};

/// An accepted request that waits for a place in the batch. Its adapter is resolved: replacing the
/// adapter under that name does not touch it any more.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    pub(crate) adapter: Option<Bound>,
    pub(crate) work: Work,
    /// Its place, alone or with the other texts of one request; given back when the last of them is dropped.
    pub(crate) permit: Arc<Permits>,
    pub(crate) waiting: Counted,
    pub(crate) submitted: Instant,
}

/// What a request is for.
#[derive(Debug)]
pub(crate) enum Work {
    Answer(Box<AnswerOrder>),
    Embedding(oneshot::Sender<Result<Vec<f32>>>),
    Scores(ScoreOrder),
}

impl Job {
    /// Whether nobody waits for the result any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::Answer(order) => order.events.is_closed(),
            Work::Embedding(reply) => reply.is_closed(),
            Work::Scores(order) => order.reply.is_closed(),
        }
    }

    /// Ends a request that never ran. Other receivers than an answer's learn it from the dropped sender.
    pub(crate) fn cancel(self) {
        let Work::Answer(order) = self.work else {
            return;
        };
        let usage = Usage {
            prompt_tokens: self.prompt.len(),
            ..Usage::default()
        };
        let timings = Timings {
            queued_seconds: self.submitted.elapsed().as_secs_f64(),
            ..Timings::default()
        };
        let reason = FinishReason::Cancelled;
        let _ = order.events.send(Event::Done { reason, usage, timings });
    }
}

/// When a request came and began, how long its prompt is, and how much of it was known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) submitted: Instant,
    pub(crate) started: Instant,
    pub(crate) prompt_tokens: usize,
    pub(crate) cached_tokens: usize,
}

/// A request in the batch. Dropping it gives its place back and ends its events.
#[derive(Debug)]
pub(crate) struct Running {
    prompt: Vec<u32>,
    adapter: Option<Bound>,
    cache: KvCache,
    origin: Origin,
    task: Task,
    /// Whether it has taken what is known of its prompt.
    begun: bool,
    _permit: Arc<Permits>,
    _running: Counted,
}

#[derive(Debug)]
enum Task {
    Answer(Box<Answer>),
    Embedding(Pooling),
    Scores(Scoring),
}

impl Running {
    pub(crate) fn new(job: Job, model: &dyn CausalLm, chat: &Chat, watch: &Watch) -> Self {
        let Job {
            prompt,
            adapter,
            work,
            permit,
            waiting,
            submitted,
        } = job;
        let running = Counted::one(&watch.running);
        drop(waiting);
        let origin = Origin {
            submitted,
            started: Instant::now(),
            prompt_tokens: prompt.len(),
            cached_tokens: 0,
        };
        let task = match work {
            Work::Answer(order) => Task::Answer(Box::new(Answer::new(order, &prompt, chat))),
            Work::Embedding(reply) => Task::Embedding(Pooling::new(reply)),
            Work::Scores(order) => Task::Scores(Scoring::new(order)),
        };
        Self {
            prompt,
            adapter,
            cache: model.new_cache(),
            origin,
            task,
            begun: false,
            _permit: permit,
            _running: running,
        }
    }

    /// Whether it has not begun, and should not before `other` has read its prompt: they begin alike, and what the other
    /// reads need not be read twice.
    pub(crate) fn waits_for(&self, other: &Self) -> bool {
        !self.begun
            && matches!(self.task, Task::Answer(_) | Task::Scores(_))
            && other.cache.is_divisible()
            && other.cache.len() < other.prompt.len()
            && prefix::begin_alike(&self.prompt, &other.prompt)
            && content(self.adapter.as_ref()) == content(other.adapter.as_ref())
    }

    /// Takes what is known of the prompt, before the first step.
    pub(crate) fn begin(&mut self, prefixes: &mut PrefixCache, observer: &dyn Observer) {
        if self.begun {
            return;
        }
        self.begun = true;
        // An embedding needs the hidden states of every token, which nobody keeps.
        if let Task::Answer(_) | Task::Scores(_) = self.task {
            prefixes.restore(content(self.adapter.as_ref()), &self.prompt, &mut self.cache);
        }
        self.origin.started = Instant::now();
        self.origin.cached_tokens = self.cache.len();
        observer.began(self.origin.started - self.origin.submitted, self.origin.cached_tokens);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        match &self.task {
            Task::Answer(answer) => answer.is_abandoned(),
            Task::Embedding(pooling) => pooling.is_abandoned(),
            Task::Scores(scoring) => scoring.is_abandoned(),
        }
    }

    /// Positions whose keys and values are held.
    pub(crate) fn cached_tokens(&self) -> usize {
        let beside = match &self.task {
            Task::Scores(scoring) => scoring.cached_tokens(),
            Task::Answer(_) | Task::Embedding(_) => 0,
        };
        self.cache.len() + beside
    }

    /// Prompt tokens that the next step would read: up to the next multiple of `chunk`, 0 when answering.
    pub(crate) fn prompt_tokens_next(&self, chunk: usize) -> usize {
        let read = self.cache.len();
        let border = (read / chunk + 1) * chunk;
        self.prompt.len().min(border).saturating_sub(read)
    }

    /// What the next step reads of this sequence, and what each part gives: one part, or one for each continuation that
    /// is scored.
    pub(crate) fn step(&mut self, chunk: usize) -> Vec<Sequence<'_>> {
        let read = self.cache.len();
        let end = read + self.prompt_tokens_next(chunk);
        let adapter = self.adapter.as_ref().map(|bound| bound.adapter.as_ref());
        let (tokens, phase, logits) = match &mut self.task {
            Task::Scores(scoring) if end == read => return scoring.parts(adapter),
            Task::Answer(answer) if end == read => (answer.next(), Phase::Decode, LogitsFor::Last),
            Task::Embedding(_) => (&self.prompt[read..end], Phase::Prefill, LogitsFor::HiddenSum),
            Task::Answer(_) | Task::Scores(_) if end < self.prompt.len() => {
                (&self.prompt[read..end], Phase::Prefill, LogitsFor::None)
            }
            Task::Answer(_) | Task::Scores(_) => (&self.prompt[read..end], Phase::Prefill, LogitsFor::Last),
        };
        vec![Sequence {
            tokens,
            cache: &mut self.cache,
            phase,
            adapter,
            logits,
        }]
    }

    /// Keeps the prompt's keys and values for prompts that begin alike, once all of it is read and nothing else is.
    pub(crate) fn keep_prompt(&self, prefixes: &mut PrefixCache) {
        if self.cache.len() == self.prompt.len() {
            prefixes.keep(content(self.adapter.as_ref()), &self.prompt, &self.cache);
        }
    }

    /// Takes what the step gave and sends what may be sent; gives whether the sequence is complete.
    ///
    /// # Errors
    /// Numbers that are not finite, or a grammar that cannot be followed.
    pub(crate) fn accept(
        &mut self,
        outputs: &mut [f32],
        stop_ids: &[u32],
        observer: &dyn Observer,
    ) -> std::result::Result<bool, String> {
        match &mut self.task {
            Task::Answer(answer) => {
                let reason = answer.accept(outputs, stop_ids)?;
                answer.report_token(self.origin, observer);
                if let Some(reason) = reason {
                    self.finish(reason, observer);
                }
                Ok(reason.is_some())
            }
            Task::Embedding(pooling) => {
                pooling.add(outputs)?;
                let complete = self.cache.len() == self.prompt.len();
                if complete {
                    pooling.finish();
                }
                Ok(complete)
            }
            Task::Scores(scoring) => scoring.accept(outputs, &self.cache),
        }
    }

    /// Ends the sequence; what is no answer and not complete ends by being dropped.
    pub(crate) fn finish(&self, reason: FinishReason, observer: &dyn Observer) {
        if let Task::Answer(answer) = &self.task {
            observer.finished(reason);
            answer.finish(reason, self.origin);
        }
    }

    /// Ends the sequence without a result.
    pub(crate) fn fail(&mut self, message: &str, observer: &dyn Observer) {
        observer.failed();
        match &mut self.task {
            Task::Answer(answer) => answer.fail(message),
            Task::Embedding(pooling) => pooling.fail(message),
            Task::Scores(scoring) => scoring.fail(message),
        }
    }
}

fn content(adapter: Option<&Bound>) -> Option<&Arc<str>> {
    adapter.map(|bound| &bound.content)
}
