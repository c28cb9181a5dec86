//! What all requests share: options, the engine once it is loaded, counters, and the requests in flight.

use std::sync::{Arc, OnceLock};

use synapse_engine::{Engine, EngineLoad};

use crate::drain::{InFlight, InFlightGuard};
use crate::error::{ApiError, ServerError};
use crate::identity;
use crate::metrics::Metrics;
use crate::options::ServerOptions;
use crate::router::{BASE, DecisionLog};

/// What all requests share; cheap to clone.
#[derive(Debug, Clone)]
pub struct ServerState {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ServerOptions,
    engine: OnceLock<Arc<Engine>>,
    in_flight: InFlight,
    metrics: Arc<Metrics>,
    decisions: DecisionLog,
    created: u64,
}

impl ServerState {
    /// A server without its engine: it can be started, and answers 503 until [`Self::ready`].
    #[must_use]
    pub fn loading(options: ServerOptions) -> Self {
        let shared = Shared {
            options,
            engine: OnceLock::new(),
            in_flight: InFlight::default(),
            metrics: Metrics::new(),
            decisions: DecisionLog::default(),
            created: identity::unix_seconds(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A server with its engine.
    ///
    /// # Errors
    /// Same as [`Self::ready`].
    pub fn new(options: ServerOptions, engine: Arc<Engine>) -> Result<Self, ServerError> {
        let state = Self::loading(options);
        state.ready(engine)?;
        Ok(state)
    }

    /// Sets the engine; only the first call has an effect.
    ///
    /// # Errors
    /// [`ServerError::NameTaken`] or [`ServerError::SwarmNameTaken`] if a model name stands for two models,
    /// [`ServerError::NoSuchMember`] if the swarm names an adapter that is not loaded.
    pub fn ready(&self, engine: Arc<Engine>) -> Result<(), ServerError> {
        check_names(&self.shared.options, &engine)?;
        engine.observe(self.shared.metrics.clone());
        self.shared.engine.get_or_init(|| engine);
        Ok(())
    }

    pub(crate) fn options(&self) -> &ServerOptions {
        &self.shared.options
    }

    /// The counters of this server.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The load of the engine, once there is one.
    pub(crate) fn load(&self) -> Option<EngineLoad> {
        self.shared.engine.get().map(|engine| engine.load())
    }

    /// The swarm's recent decisions.
    pub(crate) fn decisions(&self) -> &DecisionLog {
        &self.shared.decisions
    }

    /// When the server was started: the models' `created`.
    pub(crate) fn created(&self) -> u64 {
        self.shared.created
    }

    /// The engine, if requests are accepted.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>, ApiError> {
        if self.shared.in_flight.is_draining() {
            return Err(ApiError::unavailable("the server is shutting down", "draining"));
        }
        self.shared
            .engine
            .get()
            .ok_or_else(|| ApiError::unavailable("the model is loading", "loading"))
    }

    /// Accepts a request: draining waits until the guard is dropped.
    pub(crate) fn accept(&self) -> Result<InFlightGuard, ApiError> {
        // Counted before the check, so that draining either waits for this request or refuses it.
        let guard = self.shared.in_flight.enter();
        self.engine()?;
        Ok(guard)
    }

    /// The requests in flight.
    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.shared.in_flight
    }
}

/// Refuses model names that stand for two models, and a swarm whose adapters are not loaded.
fn check_names(options: &ServerOptions, engine: &Engine) -> Result<(), ServerError> {
    let adapters = engine.adapters();
    let is_adapter = |name: &str| adapters.iter().any(|adapter| adapter.name == name);
    if is_adapter(&options.model) {
        let name = options.model.clone();
        return Err(ServerError::NameTaken { name });
    }
    let Some(swarm) = &options.swarm else {
        return Ok(());
    };
    if is_adapter(&swarm.name) || swarm.name == options.model {
        let name = swarm.name.clone();
        return Err(ServerError::SwarmNameTaken { name });
    }
    // `SWARM:base` names the base model.
    if is_adapter(BASE) {
        let name = swarm.pinned_name(BASE);
        return Err(ServerError::SwarmNameTaken { name });
    }
    let members = swarm.labels.iter().filter_map(|label| label.adapter.as_ref());
    match members.chain([&swarm.coordinator]).find(|name| !is_adapter(name)) {
        Some(name) => Err(ServerError::NoSuchMember { name: name.clone() }),
        None => Ok(()),
    }
}
