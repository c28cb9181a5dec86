//! Reads the fields of a chat request.

use std::sync::Arc;

use serde_json::{Map, Value};
use synapse_engine::{Engine, Grammar};

use crate::answer::AnswerParser;
use crate::encoding::{Conversation, FieldGrammar};
use crate::error::ApiError;
use crate::generation::{ConversationRequest, GenerationOptions};
use crate::params::Params;
use crate::sampling::{Streaming, read_n};
use crate::target::Target;
use crate::tools::{self, Tools};
use crate::{ServerState, messages, prompts, sampling};

/// A chat request, read and validated.
pub(super) struct ChatRequest {
    pub(super) target: Target,
    pub(super) streaming: Streaming,
    /// How the answer is taken apart.
    pub(super) parser: AnswerParser,
    /// Its adapter is set once the target is known.
    pub(super) generation: ConversationRequest,
}

impl ChatRequest {
    pub(super) fn read(body: &Map<String, Value>, state: &ServerState, engine: &Engine) -> Result<Self, ApiError> {
        let params = Params::new(body);
        let target = Target::resolve(params.text("model")?, state, engine)?;
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
        let options = GenerationOptions {
            prompt_param: "messages",
            n: read_n(params, 1, state.options().max_choices)?,
            sampling,
            max_tokens: max_tokens(params)?,
            adapter: None,
        };
        let conversation = Conversation {
            messages,
            tools: tools.shown().to_vec(),
            template_arguments: prompts::template_arguments(params, engine)?,
        };
        let chat = conversation.chat(engine.chat());
        let chat = chat.map_err(|error| ApiError::from_chat(&error, prompts::TEMPLATE_ARGUMENTS))?;
        let mut parser = AnswerParser::default();
        // A grammar leaves no place for thoughts.
        if grammar.is_none() && chat.has_thought_tags() {
            parser = parser.with_thoughts(chat.begins_in_thoughts(&conversation.messages, &conversation.tools));
        }
        if !conversation.tools.is_empty() {
            parser = parser.with_calls(tools.forced());
        }
        Ok(Self {
            target,
            streaming,
            parser,
            generation: ConversationRequest {
                conversation: Arc::new(conversation),
                options,
                grammar,
            },
        })
    }
}

/// The required form of the completions, from the tools or the response format.
fn grammar(params: Params<'_>, tools: &Tools, engine: &Engine) -> Result<Option<FieldGrammar>, ApiError> {
    let of = |grammar: Option<Grammar>, param| grammar.map(|grammar| FieldGrammar { grammar, param });
    let format = tools::response_format(params)?;
    if !tools.may_be_called() {
        return Ok(of(format, "response_format"));
    }
    if format.is_some() {
        let problem = "cannot be combined with tools that may be called; give `tool_choice: none` beside it";
        return Err(ApiError::field("response_format", problem).code("unsupported_parameter"));
    }
    if !engine.chat().has_call_tags() {
        let problem = "cannot be called by this model: its chat template does not write calls between <tool_call> and </tool_call>";
        return Err(ApiError::field("tools", problem).code("unsupported_parameter"));
    }
    Ok(of(tools.grammar(), "tools"))
}

/// `max_completion_tokens`, or its older name `max_tokens`; both only if they agree.
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
