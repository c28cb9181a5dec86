//! The engine's handle: checks requests, hands them to the thread, and takes it down when dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use synapse_chat::Chat;
use synapse_nn::{Adapter, CausalLm};
use tokio::sync::mpsc::unbounded_channel;

use crate::admission::{Admission, Permits};
use crate::scheduler::Scheduler;
use crate::sequence::Job;
use crate::{Completion, EngineError, EngineOptions, Event, Receiver, Request, Result};

/// A model that answers requests on a thread of its own. Dropping it cancels what still runs.
#[derive(Debug)]
pub struct Engine {
    chat: Chat,
    adapters: BTreeMap<String, Arc<Adapter>>,
    vocab_size: usize,
    context: usize,
    admission: Arc<Admission>,
    /// `None` only while being dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine's thread.
    ///
    /// `chat` must belong to `model`. Of two adapters with one name the later is kept. Limits of 0 count as 1.
    #[must_use]
    pub fn start(
        model: Arc<dyn CausalLm>,
        chat: Chat,
        adapters: Vec<(String, Arc<Adapter>)>,
        options: EngineOptions,
    ) -> Self {
        let options = EngineOptions {
            max_batch: options.max_batch.max(1),
            prefill_chunk: options.prefill_chunk.max(1),
            ..options
        };
        let vocab_size = model.vocab_size();
        let context = options.context.unwrap_or(usize::MAX).min(model.max_positions());
        let admission = Admission::new(options.max_batch + options.max_waiting);
        let (jobs, inbox) = channel();
        let scheduler = Scheduler::new(model, chat.clone(), options, inbox);
        let thread = std::thread::spawn(move || scheduler.run());
        Self {
            chat,
            adapters: adapters.into_iter().collect(),
            vocab_size,
            context,
            admission,
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    /// The tokenizer and template of the model.
    #[must_use]
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// The names of the adapters, sorted.
    pub fn adapters(&self) -> impl Iterator<Item = &str> {
        self.adapters.keys().map(String::as_str)
    }

    /// Tokens that a prompt and its answer may have together.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Requests running and waiting.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.admission.taken()
    }

    /// Takes places for `count` requests, so that a caller knows that they will be taken before it renders and
    /// tokenizes anything.
    ///
    /// # Errors
    /// [`EngineError::Full`].
    pub fn admit(&self, count: usize) -> Result<Permits> {
        self.admission.try_take(count)
    }

    /// Starts a request in a place of its own.
    ///
    /// # Errors
    /// [`EngineError::Full`], and everything that makes a request impossible.
    pub fn submit(&self, request: Request) -> Result<Receiver> {
        let mut permits = self.admit(1)?;
        self.submit_admitted(request, &mut permits)
    }

    /// Starts a request in one of the places taken before.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permits` are used up, and everything that makes a request impossible.
    pub fn submit_admitted(&self, request: Request, permits: &mut Permits) -> Result<Receiver> {
        let adapter = self.check(&request)?;
        let permit = permits.split_one().ok_or_else(|| EngineError::Full {
            limit: self.admission.limit(),
        })?;
        let (events, receiver) = unbounded_channel();
        let Request { prompt, sampling, .. } = request;
        let job = Job {
            prompt,
            sampling,
            adapter,
            events,
            _permit: permit,
            submitted: Instant::now(),
        };
        self.jobs
            .as_ref()
            .ok_or(EngineError::Stopped)?
            .send(job)
            .map_err(|_| EngineError::Stopped)?;
        Ok(receiver)
    }

    /// Answers a batch of requests, in order, whatever their number; blocks until all are done.
    ///
    /// Must not be called from within an async task.
    ///
    /// # Errors
    /// The first request that is impossible, before any runs; or the model's failure.
    pub fn generate(&self, requests: Vec<Request>) -> Result<Vec<Completion>> {
        for request in &requests {
            self.check(request)?;
        }
        // The batch is as long as the caller made it; the waiting line is there for callers that cannot know.
        let mut permits = self.admission.take(requests.len());
        let receivers: Vec<Receiver> = requests
            .into_iter()
            .map(|request| self.submit_admitted(request, &mut permits))
            .collect::<Result<_>>()?;
        receivers.into_iter().map(collect).collect()
    }

    /// Everything that can be known to be wrong before a request runs; gives its adapter.
    fn check(&self, request: &Request) -> Result<Option<Arc<Adapter>>> {
        request.sampling.validate(self.vocab_size)?;
        if request.prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let (prompt_tokens, max_tokens) = (request.prompt.len(), request.sampling.max_tokens);
        if prompt_tokens.saturating_add(max_tokens) > self.context {
            return Err(EngineError::ContextOverflow {
                prompt_tokens,
                max_tokens,
                limit: self.context,
            });
        }
        let vocab_size = self.vocab_size;
        if let Some((index, &id)) = request
            .prompt
            .iter()
            .enumerate()
            .find(|(_, id)| **id as usize >= vocab_size)
        {
            return Err(EngineError::TokenOutOfRange { index, id, vocab_size });
        }
        let Some(name) = &request.adapter else {
            return Ok(None);
        };
        self.adapters
            .get(name)
            .cloned()
            .map(Some)
            .ok_or_else(|| EngineError::UnknownAdapter {
                name: name.clone(),
                known: self.adapters.keys().cloned().collect(),
            })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Without a sender the thread cancels what runs and ends after the step it is in.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It catches the model's panics; were there another, there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// Waits for one whole answer.
fn collect(mut events: Receiver) -> Result<Completion> {
    let (mut text, mut token_ids, mut logprobs) = (String::new(), Vec::new(), Vec::new());
    while let Some(event) = events.blocking_recv() {
        match event {
            Event::Token {
                id,
                text: piece,
                logprob,
            } => {
                token_ids.push(id);
                text.push_str(&piece);
                logprobs.push(logprob);
            }
            Event::Done { reason, usage, timings } => {
                return Ok(Completion {
                    text,
                    token_ids,
                    logprobs,
                    finish_reason: reason,
                    usage,
                    timings,
                });
            }
            Event::Failed(message) => return Err(EngineError::Failed(message)),
        }
    }
    Err(EngineError::Stopped)
}
