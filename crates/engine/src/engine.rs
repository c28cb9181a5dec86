//! The engine's handle: checks requests, hands them to the thread, and takes it down when dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use synapse_chat::Chat;
use synapse_nn::{Adapter, CausalLm};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use crate::adapters::{AdapterNames, AdapterTable};
use crate::admission::{Admission, Permits};
use crate::answer::AnswerOrder;
use crate::constraint::Grammars;
use crate::observer::{Counted, Watch};
use crate::scheduler::Scheduler;
use crate::scoring::ScoreOrder;
use crate::sequence::{Job, Work};
use crate::{
    AdapterInfo, AdapterOrder, AdapterSource, Completion, Constraint, EmbeddingReceiver, EngineError, EngineOptions,
    Event, Grammar, Load, Observer, Receiver, Request, Result, ScoreReceiver,
};

/// A model that answers requests on a thread of its own. Dropping it cancels what still runs.
#[derive(Debug)]
pub struct Engine {
    chat: Chat,
    adapters: AdapterTable,
    grammars: Grammars,
    vocab_size: usize,
    hidden_size: usize,
    context: usize,
    max_batch: usize,
    admission: Arc<Admission>,
    watch: Arc<Watch>,
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
        let (vocab_size, hidden_size) = (model.vocab_size(), model.hidden_size());
        let context = options.context.unwrap_or(usize::MAX).min(model.max_positions());
        let watch = Arc::new(Watch::default());
        let (jobs, inbox) = channel();
        let scheduler = Scheduler {
            model,
            chat: chat.clone(),
            options,
            jobs: inbox,
            watch: Arc::clone(&watch),
            waiting: VecDeque::new(),
            running: Vec::new(),
        };
        let thread = std::thread::spawn(move || scheduler.run());
        Self {
            grammars: Grammars::new(chat.clone(), vocab_size),
            chat,
            adapters: AdapterTable::new(adapters),
            vocab_size,
            hidden_size,
            context,
            max_batch: options.max_batch,
            admission: Admission::new(options.max_batch + options.max_waiting),
            watch,
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    /// Lets adapters be loaded while the engine runs.
    #[must_use]
    pub fn with_adapter_source(mut self, source: impl AdapterSource + 'static) -> Self {
        self.adapters.set_source(Box::new(source));
        self
    }

    /// The tokenizer and template of the model.
    #[must_use]
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// The adapters there are now, sorted by name.
    #[must_use]
    pub fn adapters(&self) -> Vec<AdapterInfo> {
        self.adapters.names().list()
    }

    /// Loads an adapter under a name, in place of what had the name before. Requests that run keep what they began
    /// with. The content that the name has already is not loaded again.
    ///
    /// # Errors
    /// No source, another loading, a folder that is refused, another content than expected, or too many.
    pub fn load_adapter(&self, order: AdapterOrder<'_>) -> Result<AdapterInfo> {
        self.adapters.load(order)
    }

    /// Takes an adapter's name away. Requests that run under it go on to their end.
    ///
    /// # Errors
    /// [`EngineError::UnknownAdapter`].
    pub fn remove_adapter(&self, name: &str) -> Result<()> {
        self.adapters.remove(name)
    }

    /// Compiles a grammar, once for any number of requests. A large one takes long enough to keep an async task waiting.
    ///
    /// # Errors
    /// [`EngineError::InvalidGrammar`].
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        self.grammars.compile(grammar)
    }

    /// Tokens that a prompt and its answer may have together.
    #[must_use]
    pub fn context(&self) -> usize {
        self.context
    }

    /// Width of an embedding.
    #[must_use]
    pub fn embedding_size(&self) -> usize {
        self.hidden_size
    }

    /// Requests running and waiting.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.admission.taken()
    }

    /// What the engine holds at this moment.
    #[must_use]
    pub fn load(&self) -> Load {
        Load {
            running: self.watch.running.load(Ordering::Acquire),
            waiting: self.watch.waiting.load(Ordering::Acquire),
            cached_tokens: self.watch.cached_tokens.load(Ordering::Acquire),
            cache_limit: self.max_batch.saturating_mul(self.context),
        }
    }

    /// Tells an observer what happens from now on; there is one, and later ones are not taken.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.watch.set(observer);
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
        let adapter = self.check(&request, &self.adapters.names())?;
        self.start_answer(request, adapter, permits)
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

    fn start_answer(&self, request: Request, adapter: Option<Arc<Adapter>>, permits: &mut Permits) -> Result<Receiver> {
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
        self.send(prompt, adapter, Work::Answer(order), permit)?;
        Ok(receiver)
    }

    fn place(&self, permits: &mut Permits) -> Result<Permits> {
        permits.split_one().ok_or_else(|| EngineError::Full {
            limit: self.admission.limit(),
        })
    }

    fn send(&self, prompt: Vec<u32>, adapter: Option<Arc<Adapter>>, work: Work, permit: Arc<Permits>) -> Result<()> {
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
    fn check(&self, request: &Request, names: &AdapterNames) -> Result<Option<Arc<Adapter>>> {
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
