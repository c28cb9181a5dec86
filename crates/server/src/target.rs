//! Resolves the `model` of a request: the base model, an adapter, or the swarm.

use synapse_engine::Engine;

use crate::ServerState;
use crate::error::ApiError;
use crate::router::BASE;

/// What a request's `model` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The base model without an adapter.
    Base,
    /// An adapter, by name.
    Adapter(String),
    /// The adapter that fits the conversation.
    Swarm,
}

impl Target {
    /// Resolves a name; a request without one gets the base model.
    pub(crate) fn resolve(model: Option<&str>, state: &ServerState, engine: &Engine) -> Result<Self, ApiError> {
        let options = state.options();
        let Some(name) = model.filter(|name| *name != options.model) else {
            return Ok(Self::Base);
        };
        let swarm = options.swarm.as_ref();
        if swarm.is_some_and(|swarm| swarm.name == name) {
            return Ok(Self::Swarm);
        }
        let member = swarm.and_then(|swarm| swarm.member(name));
        if member == Some(BASE) {
            return Ok(Self::Base);
        }
        let adapter = member.unwrap_or(name);
        if engine.adapters().iter().any(|known| known.name == adapter) {
            return Ok(Self::Adapter(adapter.to_owned()));
        }
        Err(ApiError::unknown_model(name, &model_ids(state, engine)))
    }
}

/// The adapter that a name stands for, on routes without a conversation to route by.
pub(crate) fn adapter(model: Option<&str>, state: &ServerState, engine: &Engine) -> Result<Option<String>, ApiError> {
    match Target::resolve(model, state, engine)? {
        Target::Base => Ok(None),
        Target::Adapter(name) => Ok(Some(name)),
        Target::Swarm => Err(ApiError::field(
            "model",
            "routes conversations only; name one of its members, or use /v1/chat/completions",
        )),
    }
}

/// The ids of the base model, the adapters and the swarm.
pub(crate) fn model_ids(state: &ServerState, engine: &Engine) -> Vec<String> {
    let options = state.options();
    std::iter::once(options.model.clone())
        .chain(engine.adapters().into_iter().map(|adapter| adapter.name))
        .chain(options.swarm.iter().map(|swarm| swarm.name.clone()))
        .collect()
}
