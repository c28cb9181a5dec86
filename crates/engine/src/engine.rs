//! The engine's handle: starts the thread, manages the adapters, reports the load, and stops the thread when dropped.

mod submit;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use synapse_nn::{Adapter, CausalLm, ModuleTrace};
use synapse_tokenizer::ChatTokenizer;

use crate::adapter_registry::AdapterRegistry;
use crate::admission::Admission;
use crate::constraint::GrammarCompiler;
use crate::observer::EngineMetrics;
use crate::prefix::PrefixCache;
use crate::queue::QueuedRequest;
use crate::scheduler::Scheduler;
use crate::{
    AdapterInfo, AdapterSource, Constraint, EngineError, EngineLoad, EngineObserver, EngineOptions, Grammar,
    LoadAdapter, Result,
};

/// A model that serves requests on a thread of its own. Dropping it cancels the requests that still run.
#[derive(Debug)]
pub struct Engine {
    model: Model,
    chat: ChatTokenizer,
    adapters: AdapterRegistry,
    grammars: GrammarCompiler,
    vocab_size: usize,
    hidden_size: usize,
    context: usize,
    max_batch: usize,
    admission: Arc<Admission>,
    metrics: Arc<EngineMetrics>,
    /// `None` only while being dropped.
    queue: Option<Sender<QueuedRequest>>,
    thread: Option<JoinHandle<()>>,
}

/// The model, for [`Engine::trace`]; requests go through the thread.
struct Model(Arc<dyn CausalLm>);

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

impl Engine {
    /// Starts the engine's thread.
    ///
    /// `chat` must belong to `model`. If two adapters have the same name, the later one is kept. Limits of 0 count as 1.
    #[must_use]
    pub fn start(
        model: Arc<dyn CausalLm>,
        chat: ChatTokenizer,
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
        let metrics = Arc::new(EngineMetrics::default());
        let (queue, submitted) = channel();
        let scheduler = Scheduler {
            model: Arc::clone(&model),
            stop_ids: chat.stop_ids().to_vec(),
            options,
            submitted,
            metrics: Arc::clone(&metrics),
            prefixes: PrefixCache::new(options.prefix_cache_bytes),
            waiting: VecDeque::new(),
            running: Vec::new(),
        };
        let thread = std::thread::spawn(move || scheduler.run());
        Self {
            model: Model(model),
            grammars: GrammarCompiler::new(chat.clone(), vocab_size),
            chat,
            adapters: AdapterRegistry::new(adapters),
            vocab_size,
            hidden_size,
            context,
            max_batch: options.max_batch,
            admission: Admission::new(options.max_batch + options.max_waiting),
            metrics,
            queue: Some(queue),
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
    pub fn chat(&self) -> &ChatTokenizer {
        &self.chat
    }

    /// The experts that the model's routers choose from; empty for a model without an expert router.
    #[must_use]
    pub fn modules(&self) -> Vec<String> {
        self.model.0.modules()
    }

    /// How each layer routes each of these tokens to its experts, under an adapter or the base model; `None` for a model
    /// without an expert router. It runs on the calling thread, in parallel with the requests.
    ///
    /// # Errors
    /// An unknown adapter, more tokens than the context holds, or a token outside the vocabulary.
    pub fn trace(&self, tokens: &[u32], adapter: Option<&str>) -> Result<Option<ModuleTrace>> {
        if tokens.len() > self.context {
            return Err(EngineError::ContextOverflow {
                prompt_tokens: tokens.len(),
                max_tokens: 0,
                limit: self.context,
            });
        }
        let version = self.adapters.snapshot().resolve(adapter)?;
        let adapter = version.as_ref().map(|version| version.adapter.as_ref());
        let traced = self.model.0.trace(tokens, adapter);
        traced.map_err(|error| EngineError::Failed(error.to_string()))
    }

    /// The loaded adapters, sorted by name.
    #[must_use]
    pub fn adapters(&self) -> Vec<AdapterInfo> {
        self.adapters.snapshot().list()
    }

    /// Loads an adapter under a name and replaces the one that had the name. Running requests keep the adapter they
    /// started with. If the name already has this content, nothing is loaded.
    ///
    /// # Errors
    /// No source, another adapter being loaded, a folder that is refused, unexpected current content, or too many adapters.
    pub fn load_adapter(&self, request: LoadAdapter<'_>) -> Result<AdapterInfo> {
        self.adapters.load(request)
    }

    /// Removes an adapter. Requests that run under it go on to their end.
    ///
    /// # Errors
    /// [`crate::EngineError::UnknownAdapter`].
    pub fn remove_adapter(&self, name: &str) -> Result<()> {
        self.adapters.remove(name)
    }

    /// Compiles a grammar, once for any number of requests. A large one takes too long for an async task: use a blocking
    /// thread.
    ///
    /// # Errors
    /// [`crate::EngineError::InvalidGrammar`].
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        self.grammars.compile(grammar)
    }

    /// Tokens that a prompt and its completion may have together.
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
        self.admission.in_flight()
    }

    /// What the engine holds at this moment.
    #[must_use]
    pub fn load(&self) -> EngineLoad {
        EngineLoad {
            running: self.metrics.running.load(Ordering::Acquire),
            waiting: self.metrics.waiting.load(Ordering::Acquire),
            cached_tokens: self.metrics.cached_tokens.load(Ordering::Acquire),
            cache_limit: self.max_batch.saturating_mul(self.context),
        }
    }

    /// Sets the observer; only the first call has an effect.
    pub fn observe(&self, observer: Arc<dyn EngineObserver>) {
        self.metrics.set_observer(observer);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Without a sender the thread cancels all requests and ends after the current step.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // The thread catches the model's panics; for any other panic there is no caller left to report to.
            let _ = thread.join();
        }
    }
}
