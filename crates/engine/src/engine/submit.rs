//! How requests get into the engine: places taken, everything checked that can be, then handed to the thread.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use super::Engine;
use crate::adapters::{AdapterNames, Bound};
use crate::admission::Permits;
use crate::answer::AnswerOrder;
use crate::observer::Counted;
use crate::scoring::ScoreOrder;
use crate::sequence::{Job, Work};
use crate::{Completion, EmbeddingReceiver, EngineError, Event, Receiver, Request, Result, ScoreReceiver};

impl Engine {
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
        let adapter = self.check(&request, &self.adapters.names())?;
        self.start_answer(request, adapter, permits)
    }

    /// Finds what makes a request impossible, without starting it: for callers that have other work to do first.
    ///
    /// # Errors
    /// Those of [`Self::submit`], but not that there is no place.
    pub fn examine(&self, request: &Request) -> Result<()> {
        self.check(request, &self.adapters.names()).map(drop)
    }

    /// Starts requests that belong together, all or none, in places taken before; an adapter's name means the same
    /// adapter in all of them.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permits` are too few, and the first request that is impossible.
    pub fn submit_together(&self, requests: Vec<Request>, permits: &mut Permits) -> Result<Vec<Receiver>> {
        let names = self.adapters.names();
        let adapters = requests
            .iter()
            .map(|request| self.check(request, &names))
            .collect::<Result<Vec<_>>>()?;
        let pairs = requests.into_iter().zip(adapters);
        pairs
            .map(|(request, adapter)| self.start_answer(request, adapter, permits))
            .collect()
    }

    /// Starts embedding texts, each at least one token, in one place taken before: a request of many texts is one
    /// request to those who wait behind it.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permits` are used up; an unknown adapter; a text that is empty, too long, or holds a
    /// token that the model has not.
    pub fn embed(
        &self,
        texts: Vec<Vec<u32>>,
        adapter: Option<&str>,
        permits: &mut Permits,
    ) -> Result<Vec<EmbeddingReceiver>> {
        let adapter = self.adapters.names().resolve(adapter)?;
        texts.iter().try_for_each(|text| self.check_prompt(text, 0))?;
        let permit = Arc::new(self.place(permits)?);
        let start = |prompt| {
            let (reply, receiver) = oneshot::channel();
            self.send(prompt, adapter.clone(), Work::Embedding(reply), Arc::clone(&permit))?;
            Ok(receiver)
        };
        texts.into_iter().map(start).collect()
    }

    /// Starts scoring how likely each continuation of a prompt is, in one place taken before.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permits` are used up; an unknown adapter; a prompt or continuation that is empty, too
    /// long together, or holds a token that the model has not.
    pub fn score(
        &self,
        prompt: Vec<u32>,
        continuations: Vec<Vec<u32>>,
        adapter: Option<&str>,
        permits: &mut Permits,
    ) -> Result<ScoreReceiver> {
        let adapter = self.adapters.names().resolve(adapter)?;
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        self.check_prompt(&prompt, longest)?;
        continuations
            .iter()
            .try_for_each(|tokens| self.check_prompt(tokens, 0))?;
        let permit = Arc::new(self.place(permits)?);
        let (reply, receiver) = oneshot::channel();
        let order = ScoreOrder { continuations, reply };
        self.send(prompt, adapter, Work::Scores(order), permit)?;
        Ok(receiver)
    }

    /// Answers a batch of requests, in order, whatever their number; blocks until all are done.
    ///
    /// Must not be called from within an async task.
    ///
    /// # Errors
    /// The first request that is impossible, before any runs; or the model's failure.
    pub fn generate(&self, requests: Vec<Request>) -> Result<Vec<Completion>> {
        // The batch is as long as the caller made it; the waiting line is there for callers that cannot know.
        let mut permits = self.admission.take(requests.len());
        let receivers = self.submit_together(requests, &mut permits)?;
        receivers.into_iter().map(collect).collect()
    }

    fn start_answer(&self, request: Request, adapter: Option<Bound>, permits: &mut Permits) -> Result<Receiver> {
        let permit = Arc::new(self.place(permits)?);
        let (events, receiver) = unbounded_channel();
        let Request {
            prompt,
            sampling,
            constraint,
            ..
        } = request;
        let order = AnswerOrder {
            sampling,
            constraint,
            events,
        };
        self.send(prompt, adapter, Work::Answer(Box::new(order)), permit)?;
        Ok(receiver)
    }

    fn place(&self, permits: &mut Permits) -> Result<Permits> {
        permits.split_one().ok_or_else(|| EngineError::Full {
            limit: self.admission.limit(),
        })
    }

    fn send(&self, prompt: Vec<u32>, adapter: Option<Bound>, work: Work, permit: Arc<Permits>) -> Result<()> {
        let job = Job {
            prompt,
            adapter,
            work,
            permit,
            waiting: Counted::one(&self.watch.waiting),
            submitted: Instant::now(),
        };
        let jobs = self.jobs.as_ref().ok_or(EngineError::Stopped)?;
        jobs.send(job).map_err(|_| EngineError::Stopped)
    }

    /// Everything that can be known to be wrong before a request runs; gives its adapter.
    fn check(&self, request: &Request, names: &AdapterNames) -> Result<Option<Bound>> {
        request.sampling.validate(self.vocab_size)?;
        self.check_prompt(&request.prompt, request.sampling.max_tokens)?;
        names.resolve(request.adapter.as_deref())
    }

    fn check_prompt(&self, prompt: &[u32], max_tokens: usize) -> Result<()> {
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        let prompt_tokens = prompt.len();
        if prompt_tokens.saturating_add(max_tokens) > self.context {
            return Err(EngineError::ContextOverflow {
                prompt_tokens,
                max_tokens,
                limit: self.context,
            });
        }
        let vocab_size = self.vocab_size;
        match prompt.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
            Some((index, &id)) => Err(EngineError::TokenOutOfRange { index, id, vocab_size }),
            None => Ok(()),
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
