//! What is slow before an answer can begin, away from the threads that serve connections: texts become tokens, and a
//! grammar is compiled.

use std::sync::Arc;

use serde_json::Value;
use synapse_engine::{Constraint, Engine, Grammar};
use synapse_tokenizer::{ChatTokenizer, Message, TokenizerError};

use crate::ServerState;
use crate::error::ApiError;

/// What is to be continued.
#[derive(Debug, Clone)]
pub(crate) enum Prompt {
    /// A conversation, and the tools that the model is shown with it.
    Messages(Vec<Message>, Vec<Value>),
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompt {
    pub(crate) fn encode(self, chat: &ChatTokenizer) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Messages(messages, tools) => chat.encode_prompt_with_tools(&messages, &tools),
            Self::Text(text) => chat.encode_raw(&text),
            Self::Tokens(ids) => Ok(ids),
        }
    }
}

/// An order's prompts in tokens, and its grammar compiled.
pub(crate) struct Prepared {
    pub(crate) prompts: Vec<Vec<u32>>,
    pub(crate) constraint: Option<Constraint>,
}

/// Encodes texts and compiles a grammar. A long text takes long enough to hold up every other connection of a thread, so
/// this happens on one that may be held up.
pub(crate) async fn prepare(
    engine: &Arc<Engine>,
    prompts: Vec<Prompt>,
    param: &'static str,
    grammar: Option<(Grammar, &'static str)>,
) -> Result<Prepared, ApiError> {
    let engine = Arc::clone(engine);
    let work = move || {
        let chat = engine.chat();
        let encoded = prompts
            .into_iter()
            .map(|prompt| prompt.encode(chat))
            .collect::<Result<_, _>>();
        let compile = |(grammar, param): (Grammar, &str)| {
            let compiled = engine.compile(&grammar);
            compiled.map_err(|error| ApiError::from_engine(&error, param))
        };
        Ok(Prepared {
            prompts: encoded.map_err(|error| ApiError::from_chat(&error, param))?,
            constraint: grammar.map(compile).transpose()?,
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::internal("encoding the prompt panicked"))?
}

/// Encodes texts, each of which must keep to the server's limit.
pub(crate) async fn encode(
    state: &ServerState,
    engine: &Arc<Engine>,
    prompts: Vec<Prompt>,
    param: &'static str,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let prepared = prepare(engine, prompts, param, None).await?;
    check_lengths(state, &prepared.prompts, param)?;
    Ok(prepared.prompts)
}

/// Refuses texts longer than the server takes.
pub(crate) fn check_lengths(state: &ServerState, prompts: &[Vec<u32>], param: &str) -> Result<(), ApiError> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    match state.options().max_prompt_tokens {
        Some(limit) if longest > limit => {
            let problem = format!("may have at most {limit} tokens on this server, found {longest}");
            Err(ApiError::field(param, problem).code("context_length_exceeded"))
        }
        _ => Ok(()),
    }
}
