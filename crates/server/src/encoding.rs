//! Encodes prompts and compiles grammars on a blocking thread: both can take too long for an async task.

use std::sync::Arc;

use serde_json::{Map, Value};
use synapse_engine::{Constraint, Engine, Grammar};
use synapse_tokenizer::{ChatTokenizer, Message, TokenizerError};

use crate::ServerState;
use crate::error::ApiError;
use crate::messages;

/// A conversation and the tools that the model is shown with it.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    pub(crate) tools: Vec<Value>,
    /// Variables of the chat template.
    pub(crate) template_arguments: Map<String, Value>,
}

impl Conversation {
    /// The tokenizer with this conversation's variables of the template.
    pub(crate) fn chat(&self, chat: &ChatTokenizer) -> Result<ChatTokenizer, TokenizerError> {
        chat.with_template_arguments(&self.template_arguments)
    }

    /// The prompt in tokens. Where the template cannot show a call with broken arguments, the error names its message.
    fn encode(&self, chat: &ChatTokenizer) -> Result<Vec<u32>, TokenizerError> {
        let chat = &self.chat(chat)?;
        let encoded = chat.encode_prompt_with_tools(&self.messages, &self.tools);
        encoded.map_err(|error| match (error, messages::with_broken_arguments(&self.messages)) {
            (TokenizerError::Template(problem), Some(index)) if self.is_shown_without_arguments(chat) => TokenizerError::Message {
                index,
                role: self.messages[index].role.clone(),
                reason: format!(
                    "the arguments of its tool call are no JSON object, which this model's template cannot show ({problem}); \
                     send valid arguments, or leave the call and its result out"
                ),
            },
            (error, _) => error,
        })
    }

    /// Whether the template shows the conversation once its calls have no broken arguments.
    fn is_shown_without_arguments(&self, chat: &ChatTokenizer) -> bool {
        let mut messages = self.messages.clone();
        for call in messages.iter_mut().flat_map(|message| &mut message.tool_calls) {
            if !call.arguments.is_object() {
                call.arguments = Value::Object(serde_json::Map::new());
            }
        }
        chat.encode_prompt_with_tools(&messages, &self.tools).is_ok()
    }
}

/// What a completion continues.
#[derive(Debug, Clone)]
pub(crate) enum Prompt {
    Chat(Arc<Conversation>),
    Text(String),
    Tokens(Vec<u32>),
}

impl Prompt {
    fn encode(self, chat: &ChatTokenizer) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Chat(conversation) => conversation.encode(chat),
            Self::Text(text) => chat.encode_raw(&text),
            Self::Tokens(ids) => Ok(ids),
        }
    }
}

/// The required form of a completion, and the field that requires it.
#[derive(Debug, Clone)]
pub(crate) struct FieldGrammar {
    pub(crate) grammar: Grammar,
    pub(crate) param: &'static str,
}

impl FieldGrammar {
    pub(crate) fn compile(&self, engine: &Engine) -> Result<Constraint, ApiError> {
        let compiled = engine.compile(&self.grammar);
        compiled.map_err(|error| ApiError::from_engine(&error, self.param))
    }
}

/// The prompts of a request in tokens, and its compiled grammar.
pub(crate) struct Encoded {
    pub(crate) prompts: Vec<Vec<u32>>,
    pub(crate) constraint: Option<Constraint>,
}

/// Encodes prompts, which came in the field `param`, and compiles a grammar.
pub(crate) async fn encode_with_grammar(
    engine: &Arc<Engine>,
    prompts: Vec<Prompt>,
    param: &'static str,
    grammar: Option<FieldGrammar>,
) -> Result<Encoded, ApiError> {
    blocking(engine, move |engine| {
        let chat = engine.chat();
        let encoded = prompts
            .into_iter()
            .map(|prompt| prompt.encode(chat))
            .collect::<Result<_, _>>();
        Ok(Encoded {
            prompts: encoded.map_err(|error| ApiError::from_chat(&error, param))?,
            constraint: grammar.map(|grammar| grammar.compile(engine)).transpose()?,
        })
    })
    .await
}

/// Encodes prompts and checks them against the server's limit.
pub(crate) async fn encode(
    state: &ServerState,
    engine: &Arc<Engine>,
    prompts: Vec<Prompt>,
    param: &'static str,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let encoded = encode_with_grammar(engine, prompts, param, None).await?;
    check_lengths(state, &encoded.prompts, param)?;
    Ok(encoded.prompts)
}

/// Runs work that encodes or compiles on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    engine: &Arc<Engine>,
    work: impl FnOnce(&Engine) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let engine = Arc::clone(engine);
    tokio::task::spawn_blocking(move || work(&engine))
        .await
        .map_err(|_| ApiError::internal("encoding the prompt panicked"))?
}

/// Refuses prompts longer than the server's limit.
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
