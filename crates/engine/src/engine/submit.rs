//! How requests get into the engine: admitted, validated, then sent to the engine's thread.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use super::Engine;
use crate::adapter_registry::{AdapterSnapshot, AdapterVersion};
use crate::admission::Permit;
use crate::embedding::Pooling;
use crate::generation::Generation;
use crate::observer::GaugeGuard;
use crate::queue::QueuedRequest;
use crate::scoring::Scoring;
use crate::task::Task;
use crate::{Completion, EmbeddingReceiver, EngineError, EventReceiver, Request, Result, ScoreReceiver};

impl Engine {
    /// Admits `count` requests, so that a caller knows that they will be accepted before it renders and tokenizes
    /// anything.
    ///
    /// # Errors
    /// [`EngineError::Full`].
    pub fn admit(&self, count: usize) -> Result<Permit> {
        self.admission.try_acquire(count)
    }

    /// Submits a request.
    ///
    /// # Errors
    /// [`EngineError::Full`], and everything that makes a request invalid.
    pub fn submit(&self, request: Request) -> Result<EventReceiver> {
        let mut permit = self.admit(1)?;
        self.submit_admitted(request, &mut permit)
    }

    /// Submits a request that was admitted before.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permit` is used up, and everything that makes a request invalid.
    pub fn submit_admitted(&self, request: Request, permit: &mut Permit) -> Result<EventReceiver> {
        let adapter = self.check(&request, &self.adapters.snapshot())?;
        self.start_generation(request, adapter, permit)
    }

    /// Checks a request without submitting it, for callers that have other work to do first.
    ///
    /// # Errors
    /// Same as [`Self::submit`], except [`EngineError::Full`].
    pub fn validate(&self, request: &Request) -> Result<()> {
        self.check(request, &self.adapters.snapshot()).map(drop)
    }

    /// Submits several requests that were admitted before, all or none. An adapter's name stands for the same adapter in
    /// all of them.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permit` does not cover them, and the first request that is invalid.
    pub fn submit_batch(&self, requests: Vec<Request>, permit: &mut Permit) -> Result<Vec<EventReceiver>> {
        let snapshot = self.adapters.snapshot();
        let adapters = requests
            .iter()
            .map(|request| self.check(request, &snapshot))
            .collect::<Result<Vec<_>>>()?;
        let pairs = requests.into_iter().zip(adapters);
        pairs
            .map(|(request, adapter)| self.start_generation(request, adapter, permit))
            .collect()
    }

    /// Embeds texts, each at least one token. Together they count as one request, which was admitted before.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permit` is used up; an unknown adapter; a text that is empty, too long, or holds a token
    /// outside the vocabulary.
    pub fn embed(
        &self,
        texts: Vec<Vec<u32>>,
        adapter: Option<&str>,
        permit: &mut Permit,
    ) -> Result<Vec<EmbeddingReceiver>> {
        let adapter = self.adapters.snapshot().resolve(adapter)?;
        texts.iter().try_for_each(|text| self.check_prompt(text, 0))?;
        let permit = Arc::new(self.permit_for_one(permit)?);
        let start = |prompt| {
            let (reply, receiver) = oneshot::channel();
            let task = Task::Embed(Pooling::new(reply));
            self.send(prompt, adapter.clone(), task, Arc::clone(&permit))?;
            Ok(receiver)
        };
        texts.into_iter().map(start).collect()
    }

    /// Scores how likely each continuation of a prompt is, as one request that was admitted before.
    ///
    /// # Errors
    /// [`EngineError::Full`] if `permit` is used up; an unknown adapter; a prompt or continuation that is empty, too long
    /// together, or holds a token outside the vocabulary.
    pub fn score(
        &self,
        prompt: Vec<u32>,
        continuations: Vec<Vec<u32>>,
        adapter: Option<&str>,
        permit: &mut Permit,
    ) -> Result<ScoreReceiver> {
        let adapter = self.adapters.snapshot().resolve(adapter)?;
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        self.check_prompt(&prompt, longest)?;
        continuations
            .iter()
            .try_for_each(|tokens| self.check_prompt(tokens, 0))?;
        let permit = Arc::new(self.permit_for_one(permit)?);
        let (reply, receiver) = oneshot::channel();
        let task = Task::Score(Scoring::new(continuations, reply));
        self.send(prompt, adapter, task, permit)?;
        Ok(receiver)
    }

    /// Generates the completions of a batch of requests, in order, and blocks until all are done. The engine's limit does
    /// not apply.
    ///
    /// Must not be called from an async task.
    ///
    /// # Errors
    /// The first request that is invalid, before any runs; or the model's failure.
    pub fn generate(&self, requests: Vec<Request>) -> Result<Vec<Completion>> {
        // The queue's limit protects from callers that do not know of each other; here one caller chose the size.
        let mut permit = self.admission.acquire(requests.len());
        let receivers = self.submit_batch(requests, &mut permit)?;
        receivers.into_iter().map(EventReceiver::blocking_collect).collect()
    }

    fn start_generation(
        &self,
        request: Request,
        adapter: Option<AdapterVersion>,
        permit: &mut Permit,
    ) -> Result<EventReceiver> {
        let permit = Arc::new(self.permit_for_one(permit)?);
        let (events, receiver) = unbounded_channel();
        let Request {
            prompt,
            sampling,
            constraint,
            adapter: _,
        } = request;
        let generation = Generation::new(&prompt, sampling, constraint, events, &self.chat);
        self.send(prompt, adapter, Task::Generate(Box::new(generation)), permit)?;
        Ok(EventReceiver::new(receiver))
    }

    fn permit_for_one(&self, permit: &mut Permit) -> Result<Permit> {
        permit.split_one().ok_or_else(|| EngineError::Full {
            limit: self.admission.limit(),
        })
    }

    fn send(&self, prompt: Vec<u32>, adapter: Option<AdapterVersion>, task: Task, permit: Arc<Permit>) -> Result<()> {
        let request = QueuedRequest {
            prompt,
            adapter,
            task,
            permit,
            waiting: GaugeGuard::new(&self.metrics.waiting),
            submitted: Instant::now(),
        };
        let queue = self.queue.as_ref().ok_or(EngineError::Stopped)?;
        queue.send(request).map_err(|_| EngineError::Stopped)
    }

    /// Finds everything that is wrong with a request before it runs. Returns its adapter.
    fn check(&self, request: &Request, snapshot: &AdapterSnapshot) -> Result<Option<AdapterVersion>> {
        request.sampling.validate(self.vocab_size)?;
        self.check_prompt(&request.prompt, request.sampling.max_tokens)?;
        snapshot.resolve(request.adapter.as_deref())
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
