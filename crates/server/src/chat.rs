//! `POST /v1/chat/completions`: answers a conversation, with one model or through the swarm.
//!
//! `request` reads the body, `writer` writes the response.

mod request;
mod writer;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use synapse_engine::Engine;

use crate::ServerState;
use crate::aggregation::{Aggregation, DraftedReply, Proposers};
use crate::body::{BodyPolicy, RawBody};
use crate::drain::InFlightGuard;
use crate::error::ApiError;
use crate::fields;
use crate::generation::{Completions, ConversationRequest};
use crate::router::Decision;
use crate::sse::{self, ChunkWriter};
use crate::target::Target;
use crate::wire::Envelope;

use request::ChatRequest;
use writer::ChatWriter;

/// Who answers a conversation.
struct Route {
    /// The model name in the response; a request with this name is routed the same way without scoring.
    model: String,
    decision: Option<Decision>,
    /// `None` if one model answers alone.
    aggregation: Option<Box<Aggregation>>,
}

/// Answers a conversation.
pub(crate) async fn create(State(state): State<ServerState>, body: RawBody) -> Result<Response, ApiError> {
    let (engine, body) = body.read(&state, BodyPolicy::AssumeJson, fields::CHAT)?;
    let ChatRequest {
        target,
        streaming,
        parser,
        mut generation,
    } = ChatRequest::read(&body, &state, &engine)?;
    // From here on draining waits for the request.
    let guard = state.accept()?;
    let route = match target {
        Target::Base => Route {
            model: state.options().model.clone(),
            decision: None,
            aggregation: None,
        },
        Target::Adapter(name) => {
            generation.options.adapter = Some(name.clone());
            Route {
                model: name,
                decision: None,
                aggregation: None,
            }
        }
        Target::Swarm => route(&state, &engine, &mut generation, &guard).await?,
    };
    let adapter = route.decision.as_ref().map(|decision| decision.target().to_owned());
    let mut writer = ChatWriter {
        envelope: Envelope::new("chatcmpl-", route.model, streaming.include_usage),
        decision: route.decision,
        decision_has_news: false,
        logprobs: generation.options.sampling.logprobs.is_some(),
        parser,
        parsers: Vec::new(),
        engine: Arc::clone(&engine),
    };
    let keep_alive = state.options().keep_alive;
    let mut response = match route.aggregation {
        Some(aggregation) if streaming.stream => sse::respond_drafted(*aggregation, writer, keep_alive),
        Some(aggregation) => {
            let DraftedReply { completions, drafts } = aggregation.run().await?;
            writer.drafts(drafts);
            writer.whole(completions).await?
        }
        None => {
            let completions = Completions::start(&state, &engine, generation, guard).await?;
            if streaming.stream {
                sse::respond(completions, writer, keep_alive)
            } else {
                writer.whole(completions).await?
            }
        }
    };
    // An adapter's name may hold characters that a header cannot.
    if let Some(value) = adapter.and_then(|adapter| HeaderValue::from_str(&adapter).ok()) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-synapse-adapter"), value);
    }
    Ok(response)
}

/// Asks the swarm where the conversation is routed, and whether several adapters draft an answer first.
async fn route(
    state: &ServerState,
    engine: &Arc<Engine>,
    generation: &mut ConversationRequest,
    guard: &InFlightGuard,
) -> Result<Route, ApiError> {
    let Some(swarm) = &state.options().swarm else {
        return Err(ApiError::internal("a conversation was to be routed without a swarm"));
    };
    let messages = &generation.conversation.messages;
    let mut decision = swarm.route(engine, messages).await?;
    let entry = state.decisions().record(&decision, messages);
    state.metrics().routed(&decision);
    generation.options.adapter.clone_from(&decision.adapter);
    let mut aggregation = None;
    if !decision.proposers.is_empty() {
        let adapters = decision.proposers.iter().map(|proposer| proposer.adapter.clone());
        let proposers = Proposers {
            adapters: adapters.collect(),
            entry,
        };
        aggregation = Aggregation::plan(state, engine, generation, proposers, guard.clone()).await?;
        if aggregation.is_some() {
            for proposer in &decision.proposers {
                state.metrics().drafting(&proposer.adapter);
            }
        } else {
            decision.proposers.clear();
            state.decisions().remove_drafts(entry);
        }
    }
    Ok(Route {
        model: match &aggregation {
            None => swarm.pinned_name(decision.target()),
            Some(_) => swarm.name.clone(),
        },
        decision: Some(decision),
        aggregation: aggregation.map(Box::new),
    })
}
