//! What all requests share: options, the engine once it is loaded, and how many requests are being answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use synapse_engine::{Engine, EngineLoad, SamplingOptions};
use tokio::sync::watch;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::routing_trace::RoutingTrace;
use crate::swarm::BASE;
use crate::{AdapterRoot, ApiKeys, ServerError, Swarm, identity};

/// How the server behaves; all but the model's name have defaults.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The base's id in `/v1/models` and in requests.
    pub model: String,
    /// What sampling fields mean that a request leaves out.
    pub defaults: SamplingDefaults,
    /// Keys for all that computes or changes something; `None` leaves it open.
    pub api_keys: Option<ApiKeys>,
    /// Origins of web pages, other than the server's own, that browsers may let in; `*` names all.
    pub allowed_origins: Vec<String>,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Answers that one request may ask for (`n` times its prompts).
    pub max_choices: usize,
    /// Texts that one request may have embedded.
    pub max_inputs: usize,
    /// Tokens that a prompt or text may have, where that is less than the context.
    pub max_prompt_tokens: Option<usize>,
    /// A model name that finds the adapter by itself.
    pub swarm: Option<Swarm>,
    /// Where adapters may be loaded from while the server runs; `None` lets nobody change them.
    pub adapters: Option<AdapterRoot>,
    /// How often a silent stream sends a comment, so that nothing between takes it for dead.
    pub keep_alive: Duration,
    /// How long a client may take to send a request's head, and again for its body.
    pub patience: Duration,
    /// How long accepted requests may go on after the signal to stop.
    pub drain: Duration,
}

impl ServerOptions {
    /// The defaults, for a base of this name.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            defaults: SamplingDefaults::default(),
            api_keys: None,
            allowed_origins: Vec::new(),
            max_body_bytes: 4 << 20,
            max_choices: 16,
            max_inputs: 256,
            max_prompt_tokens: None,
            swarm: None,
            adapters: None,
            keep_alive: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

/// Sampling where a request does not say: OpenAI's defaults, or a model's own from its generation_config.json.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingDefaults {
    /// Divides the logits.
    pub temperature: f32,
    /// Probability mass that is kept.
    pub top_p: f32,
    /// Tokens that are kept; 0 keeps all.
    pub top_k: usize,
    /// Penalty on tokens of prompt and answer; 1 is off.
    pub repetition_penalty: f32,
}

impl Default for SamplingDefaults {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
        }
    }
}

impl SamplingDefaults {
    pub(crate) fn options(self) -> SamplingOptions {
        let Self {
            temperature,
            top_p,
            top_k,
            repetition_penalty,
        } = self;
        SamplingOptions {
            temperature,
            top_p,
            top_k,
            repetition_penalty,
            ..SamplingOptions::default()
        }
    }
}

/// What all requests share; cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerState {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ServerOptions,
    engine: OnceLock<Arc<Engine>>,
    draining: AtomicBool,
    answering: watch::Sender<usize>,
    metrics: Arc<Metrics>,
    trace: RoutingTrace,
    created: u64,
}

impl ServerState {
    /// A server that is loading: it can be started, and answers 503 until [`Self::ready`].
    #[must_use]
    pub fn loading(options: ServerOptions) -> Self {
        let shared = Shared {
            options,
            engine: OnceLock::new(),
            draining: AtomicBool::new(false),
            answering: watch::Sender::new(0),
            metrics: Metrics::new(),
            trace: RoutingTrace::default(),
            created: identity::unix_seconds(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A server with its engine.
    ///
    /// # Errors
    /// [`ServerError::NameTaken`].
    pub fn new(options: ServerOptions, engine: Arc<Engine>) -> Result<Self, ServerError> {
        let state = Self::loading(options);
        state.ready(engine)?;
        Ok(state)
    }

    /// Ends the loading; a second engine is not taken.
    ///
    /// # Errors
    /// [`ServerError::NameTaken`] if an adapter has the base's name.
    pub fn ready(&self, engine: Arc<Engine>) -> Result<(), ServerError> {
        let Shared { options, .. } = &*self.shared;
        let adapters = engine.adapters();
        let is_adapter = |name: &str| adapters.iter().any(|adapter| adapter.name == name);
        if is_adapter(&options.model) {
            let name = options.model.clone();
            return Err(ServerError::NameTaken { name });
        }
        if let Some(swarm) = &options.swarm {
            if is_adapter(&swarm.name) || swarm.name == options.model {
                let name = swarm.name.clone();
                return Err(ServerError::SwarmNameTaken { name });
            }
            // That name is the base's in a pin.
            if is_adapter(BASE) {
                let name = swarm.pin(BASE);
                return Err(ServerError::SwarmNameTaken { name });
            }
            let members = swarm.labels.iter().filter_map(|label| label.adapter.as_ref());
            if let Some(name) = members.chain([&swarm.coordinator]).find(|name| !is_adapter(name)) {
                return Err(ServerError::NoSuchMember { name: name.clone() });
            }
        }
        engine.observe(self.shared.metrics.clone());
        self.shared.engine.get_or_init(|| engine);
        Ok(())
    }

    pub(crate) fn options(&self) -> &ServerOptions {
        &self.shared.options
    }

    /// The counts of this server.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// What the engine holds, once there is one.
    pub(crate) fn load(&self) -> Option<EngineLoad> {
        self.shared.engine.get().map(|engine| engine.load())
    }

    /// The swarm's last decisions.
    pub(crate) fn trace(&self) -> &RoutingTrace {
        &self.shared.trace
    }

    /// When the server was made, as the models' `created`.
    pub(crate) fn created(&self) -> u64 {
        self.shared.created
    }

    /// The engine, if requests are taken.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>, ApiError> {
        if self.shared.draining.load(Ordering::Acquire) {
            return Err(ApiError::unavailable("the server is shutting down", "draining"));
        }
        self.shared
            .engine
            .get()
            .ok_or_else(|| ApiError::unavailable("the model is loading", "loading"))
    }

    /// The base's id, those of the adapters, and the swarm's.
    pub(crate) fn model_ids(&self, engine: &Engine) -> Vec<String> {
        let Shared { options, .. } = &*self.shared;
        std::iter::once(options.model.clone())
            .chain(engine.adapters().into_iter().map(|adapter| adapter.name))
            .chain(options.swarm.iter().map(|swarm| swarm.name.clone()))
            .collect()
    }

    /// What a request's `model` means; the base where nothing is said.
    pub(crate) fn target_of(&self, model: Option<&str>, engine: &Engine) -> Result<Target, ApiError> {
        let Shared { options, .. } = &*self.shared;
        let Some(name) = model.filter(|name| *name != options.model) else {
            return Ok(Target::Base);
        };
        let swarm = options.swarm.as_ref();
        if swarm.is_some_and(|swarm| swarm.name == name) {
            return Ok(Target::Swarm);
        }
        let member = swarm.and_then(|swarm| swarm.pinned(name));
        if member == Some(BASE) {
            return Ok(Target::Base);
        }
        let wanted = member.unwrap_or(name);
        if engine.adapters().iter().any(|adapter| adapter.name == wanted) {
            return Ok(Target::Adapter(wanted.to_owned()));
        }
        Err(ApiError::unknown_model(name, &self.model_ids(engine)))
    }

    /// The adapter that a request's `model` means, for routes that have no conversation to route by.
    pub(crate) fn adapter_of(&self, model: Option<&str>, engine: &Engine) -> Result<Option<String>, ApiError> {
        match self.target_of(model, engine)? {
            Target::Base => Ok(None),
            Target::Adapter(name) => Ok(Some(name)),
            Target::Swarm => Err(ApiError::field(
                "model",
                "routes conversations only; name one of its members, or use /v1/chat/completions",
            )),
        }
    }

    /// From now on no request is taken.
    pub(crate) fn start_draining(&self) {
        self.shared.draining.store(true, Ordering::Release);
    }

    /// Takes a request: it counts as being answered, and draining waits for it, until the guard is dropped.
    pub(crate) fn accept(&self) -> Result<Answering, ApiError> {
        // Counted before the look at the drain, so that draining either sees this request or refuses it.
        let answering = self.answering();
        self.engine()?;
        Ok(answering)
    }

    fn answering(&self) -> Answering {
        self.shared.answering.send_modify(|count| *count += 1);
        Answering { state: self.clone() }
    }

    /// Requests being answered.
    pub(crate) fn unfinished(&self) -> usize {
        *self.shared.answering.borrow()
    }

    /// Waits until no request is being answered.
    pub(crate) async fn finished(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.shared.answering.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// What a request's `model` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The base without an adapter.
    Base,
    /// An adapter, by name.
    Adapter(String),
    /// Whatever fits the conversation.
    Swarm,
}

/// A request being answered.
#[derive(Debug)]
pub(crate) struct Answering {
    state: ServerState,
}

impl Answering {
    /// Counts another part of the same request.
    pub(crate) fn again(&self) -> Self {
        self.state.answering()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.state.shared.answering.send_modify(|count| *count -= 1);
    }
}
