//! `POST /v1/chat/completions`: from its fields to an order. `wire` writes the answers.

mod wire;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use serde_json::{Map, Value};
use synapse_engine::{Engine, Grammar};

use crate::body::{Form, read_object};
use crate::error::ApiError;
use crate::generation::{Choices, Order};
use crate::params::Params;
use crate::prepare::Prompt;
use crate::sampling::{Streaming, read_n};
use crate::sse;
use crate::sse::Transcript;
use crate::state::{Answering, Target};
use crate::swarm::{Decision, Swarm};
use crate::synthesis::{Drafted, Panel, Planned, Synthesis};
use crate::tools::{self, Tools};
use crate::{ServerState, fields, identity, messages, sampling};

use wire::Wire;
pub(crate) use wire::usage;

/// Answers a conversation.
pub(crate) async fn create(
    State(state): State<ServerState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = read_object(&headers, body, Form::IsJson(&state.options().allowed_origins))?;
    let engine = Arc::clone(state.engine()?);
    let (mut order, target, streaming) = read(&body, &state, &engine)?;
    // From here on draining waits for it, wherever it is on its way to an answer.
    let answering = state.accept()?;
    let calls = matches!(order.prompts.as_slice(), [Prompt::Messages(_, tools)] if !tools.is_empty());
    let logprobs = order.sampling.logprobs.is_some();
    let (model, routing, planned) = match target {
        Target::Base => (state.options().model.clone(), None, Planned::Alone(Box::new(order))),
        Target::Adapter(name) => {
            order.adapter = Some(name.clone());
            (name, None, Planned::Alone(Box::new(order)))
        }
        Target::Swarm => {
            let (swarm, decision, planned) = route(&state, &engine, order, &answering).await?;
            // The name that leads to the same model again.
            let model = match &planned {
                Planned::Alone(_) => swarm.pin(decision.target()),
                Planned::Drafts(_) => swarm.name.clone(),
            };
            (model, Some(decision), planned)
        }
    };
    let adapter = routing.as_ref().map(|decision| decision.target().to_owned());
    let mut wire = Wire {
        id: identity::random_id("chatcmpl-"),
        created: identity::unix_seconds(),
        model,
        routing,
        routing_is_news: false,
        logprobs,
        include_usage: streaming.include_usage,
        parsers: calls.then(Vec::new),
        engine: Arc::clone(&engine),
    };
    let keep_alive = state.options().keep_alive;
    let mut response = match planned {
        Planned::Drafts(synthesis) if streaming.stream => sse::respond_drafted(*synthesis, wire, keep_alive),
        Planned::Drafts(synthesis) => {
            let Drafted { choices, drafts } = synthesis.run().await?;
            wire.drafted(drafts);
            wire.whole(choices).await?
        }
        Planned::Alone(order) => {
            let choices = Choices::start(&state, &engine, *order, answering).await?;
            if streaming.stream {
                sse::respond(choices, wire, keep_alive)
            } else {
                wire.whole(choices).await?
            }
        }
    };
    // An adapter's name may hold characters that no header can.
    if let Some(value) = adapter.and_then(|adapter| HeaderValue::from_str(&adapter).ok()) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-synapse-adapter"), value);
    }
    Ok(response)
}

/// Asks the swarm where the conversation goes, and whether several specialists draft an answer first.
async fn route<'s>(
    state: &'s ServerState,
    engine: &Arc<Engine>,
    mut order: Order,
    answering: &Answering,
) -> Result<(&'s Swarm, Decision, Planned), ApiError> {
    let (Some(swarm), [Prompt::Messages(messages, _)]) = (&state.options().swarm, order.prompts.as_slice()) else {
        return Err(ApiError::internal("a conversation was to be routed without a swarm"));
    };
    let mut decision = swarm.route(engine, messages).await?;
    let entry = state.trace().record(&decision, messages);
    state.metrics().routed(&decision);
    order.adapter.clone_from(&decision.adapter);
    if decision.asked.is_empty() {
        return Ok((swarm, decision, Planned::Alone(Box::new(order))));
    }
    let specialists = decision.asked.iter().map(|asked| asked.adapter.clone()).collect();
    let panel = Panel { specialists, entry };
    let planned = Synthesis::plan(state, engine, order, panel, answering.again()).await?;
    match &planned {
        Planned::Alone(_) => {
            decision.asked.clear();
            state.trace().not_drafted(entry);
        }
        Planned::Drafts(_) => {
            let asked = decision.asked.iter();
            asked.for_each(|asked| state.metrics().drafting(&asked.adapter));
        }
    }
    Ok((swarm, decision, planned))
}

fn read(
    body: &Map<String, Value>,
    state: &ServerState,
    engine: &Engine,
) -> Result<(Order, Target, Streaming), ApiError> {
    fields::check(body, fields::CHAT)?;
    let params = Params::new(body);
    let target = state.target_of(params.text("model")?, engine)?;
    let messages = messages::read(params)?;
    let tools = Tools::read(params)?;
    let streaming = Streaming::read(params)?;
    let mut sampling = sampling::read(params, state.options().defaults)?;
    sampling.logprobs = logprobs(params)?;
    let grammar = grammar(params, &tools, engine)?;
    if grammar.is_some() && sampling.ignore_eos {
        let problem = "cannot be combined with an answer whose form decides where it ends";
        return Err(ApiError::field("ignore_eos", problem));
    }
    let order = Order {
        prompts: vec![Prompt::Messages(messages, tools.shown().to_vec())],
        prompt_param: "messages",
        n: read_n(params, 1, state.options().max_choices)?,
        sampling,
        max_tokens: max_tokens(params)?,
        adapter: None,
        grammar,
    };
    Ok((order, target, streaming))
}

/// The form that the answer must have, from the tools or the response format.
fn grammar(params: Params<'_>, tools: &Tools, engine: &Engine) -> Result<Option<(Grammar, &'static str)>, ApiError> {
    let format = tools::response_format(params)?;
    if !tools.may_be_called() {
        return Ok(format.map(|grammar| (grammar, "response_format")));
    }
    if format.is_some() {
        let problem = "cannot be combined with tools that may be called; give `tool_choice: none` beside it";
        return Err(ApiError::field("response_format", problem).code("unsupported_parameter"));
    }
    if !engine.chat().has_call_tags() {
        let problem = "cannot be called by this model: its chat template does not write calls between <tool_call> and </tool_call>";
        return Err(ApiError::field("tools", problem).code("unsupported_parameter"));
    }
    Ok(tools.grammar().map(|grammar| (grammar, "tools")))
}

/// `max_completion_tokens`, or its older name; both only if they agree.
fn max_tokens(params: Params<'_>) -> Result<Option<usize>, ApiError> {
    let newer = params.count("max_completion_tokens")?;
    let older = params.count("max_tokens")?;
    if newer == Some(0) {
        return Err(ApiError::field("max_completion_tokens", "must be at least 1, found 0"));
    }
    if let (Some(newer), Some(older)) = (newer, older)
        && newer != older
    {
        let problem = format!("is {older}, but its newer name `max_completion_tokens` is {newer}; give one of them");
        return Err(ApiError::field("max_tokens", problem));
    }
    Ok(newer.or(older))
}

fn logprobs(params: Params<'_>) -> Result<Option<usize>, ApiError> {
    let wanted = params.boolean("logprobs")?.unwrap_or(false);
    let top = params.count("top_logprobs")?;
    if !wanted && top.is_some_and(|top| top > 0) {
        return Err(ApiError::field("top_logprobs", "needs `logprobs: true`"));
    }
    Ok(wanted.then(|| top.unwrap_or(0)))
}
