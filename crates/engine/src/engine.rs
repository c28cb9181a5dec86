//! The engine's handle: starts the thread, knows its adapters and its load, and takes it down when dropped.

mod submit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use synapse_nn::{Adapter, CausalLm, ModuleTrace};
use synapse_tokenizer::Chat;

use crate::adapters::AdapterTable;
use crate::admission::Admission;
use crate::constraint::Grammars;
use crate::observer::Watch;
use crate::prefix::PrefixCache;
use crate::scheduler::Scheduler;
use crate::sequence::Job;
use crate::{
    AdapterInfo, AdapterOrder, AdapterSource, Constraint, EngineError, EngineOptions, Grammar, Load, Observer, Result,
};

/// A model that answers requests on a thread of its own. Dropping it cancels what still runs.
#[derive(Debug)]
pub struct Engine {
    model: Model,
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

/// The model, for looks inside; requests go through the thread.
struct Model(Arc<dyn CausalLm>);

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
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
            model: Arc::clone(&model),
            chat: chat.clone(),
            options,
            jobs: inbox,
            watch: Arc::clone(&watch),
            prefixes: PrefixCache::new(options.prefix_cache_bytes),
            waiting: VecDeque::new(),
            running: Vec::new(),
        };
        let thread = std::thread::spawn(move || scheduler.run());
        Self {
            model: Model(model),
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

    /// The modules that the model's routers choose among; none of a model that sends every token through all of itself.
    #[must_use]
    pub fn modules(&self) -> Vec<String> {
        self.model.0.modules()
    }

    /// What each layer's modules do with each of these tokens, read from the beginning under an adapter or the base;
    /// `None` of a model without modules. It runs on the calling thread, beside the requests.
    ///
    /// # Errors
    /// An unknown adapter, more tokens than the context holds, or a token that the model does not have.
    pub fn trace(&self, tokens: &[u32], adapter: Option<&str>) -> Result<Option<ModuleTrace>> {
        if tokens.len() > self.context {
            return Err(EngineError::ContextOverflow {
                prompt_tokens: tokens.len(),
                max_tokens: 0,
                limit: self.context,
            });
        }
        let bound = self.adapters.names().resolve(adapter)?;
        let adapter = bound.as_ref().map(|bound| bound.adapter.as_ref());
        let traced = self.model.0.trace(tokens, adapter);
        traced.map_err(|error| EngineError::Failed(error.to_string()))
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
    /// [`crate::EngineError::UnknownAdapter`].
    pub fn remove_adapter(&self, name: &str) -> Result<()> {
        self.adapters.remove(name)
    }

    /// Compiles a grammar, once for any number of requests. A large one takes long enough to keep an async task waiting.
    ///
    /// # Errors
    /// [`crate::EngineError::InvalidGrammar`].
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

    /// Requests that may run and wait together.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.admission.limit()
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
