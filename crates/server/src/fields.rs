//! The one table of what each field of OpenAI's requests means here.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// What the server does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what OpenAI says.
    Supported,
    /// Any value is accepted, because none could change the answer: the reason.
    WithoutEffect(&'static str),
    /// Only these values, written as JSON, are accepted, because with them it changes nothing; others are refused.
    Only(&'static [&'static str], &'static str),
    /// Refused by name: the reason.
    Refused(&'static str),
}

/// A field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// As it stands in the request.
    pub name: &'static str,
    /// What the server does with it.
    pub support: Support,
}

const fn supported(name: &'static str) -> Field {
    Field {
        name,
        support: Support::Supported,
    }
}

const fn without_effect(name: &'static str, reason: &'static str) -> Field {
    Field {
        name,
        support: Support::WithoutEffect(reason),
    }
}

const fn only(name: &'static str, values: &'static [&'static str], reason: &'static str) -> Field {
    Field {
        name,
        support: Support::Only(values, reason),
    }
}

const fn refused(name: &'static str, reason: &'static str) -> Field {
    Field {
        name,
        support: Support::Refused(reason),
    }
}

const NO_TOOLS: &str = "calling tools is not implemented";
const NOTHING_KEPT: &str = "nothing about requests is kept";
const CACHING: &str = "caching never changes an answer";

/// The fields of `POST /v1/chat/completions`.
pub const CHAT: &[Field] = &[
    supported("frequency_penalty"),
    supported("logit_bias"),
    supported("logprobs"),
    supported("max_completion_tokens"),
    supported("max_tokens"),
    supported("messages"),
    supported("model"),
    supported("n"),
    supported("presence_penalty"),
    supported("seed"),
    supported("stop"),
    supported("stream"),
    supported("stream_options"),
    supported("temperature"),
    supported("top_logprobs"),
    supported("top_p"),
    // Not OpenAI's, but what vLLM and llama.cpp call them.
    supported("ignore_eos"),
    supported("min_p"),
    supported("repetition_penalty"),
    supported("top_k"),
    without_effect("metadata", NOTHING_KEPT),
    without_effect("parallel_tool_calls", "there are no tools to call"),
    without_effect("prediction", "a predicted answer only saves OpenAI time"),
    without_effect("prompt_cache_key", CACHING),
    without_effect("prompt_cache_options", CACHING),
    without_effect("prompt_cache_retention", CACHING),
    without_effect("safety_identifier", NOTHING_KEPT),
    without_effect("user", NOTHING_KEPT),
    only("function_call", &["\"none\"", "\"auto\""], NO_TOOLS),
    only("functions", &["[]"], NO_TOOLS),
    only("modalities", &["[\"text\"]"], "the models read and write text"),
    only(
        "reasoning_effort",
        &["\"none\""],
        "the models do not reason before they answer",
    ),
    only(
        "response_format",
        &["{\"type\":\"text\"}"],
        "constrained answers are not implemented",
    ),
    only("service_tier", &["\"auto\"", "\"default\""], "there is one tier"),
    only("store", &["false"], NOTHING_KEPT),
    only("tool_choice", &["\"none\"", "\"auto\""], NO_TOOLS),
    only("tools", &["[]"], NO_TOOLS),
    only("verbosity", &["\"medium\""], "the models know no verbosity"),
    refused("audio", "the models read and write text"),
    refused("moderation", "there is no moderation model"),
    refused("web_search_options", "searching the web is not implemented"),
];

/// The fields of `POST /v1/completions`.
pub const COMPLETIONS: &[Field] = &[
    supported("frequency_penalty"),
    supported("logit_bias"),
    supported("logprobs"),
    supported("max_tokens"),
    supported("model"),
    supported("n"),
    supported("presence_penalty"),
    supported("prompt"),
    supported("seed"),
    supported("stop"),
    supported("stream"),
    supported("stream_options"),
    supported("temperature"),
    supported("top_p"),
    // Not OpenAI's, but what vLLM and llama.cpp call them.
    supported("ignore_eos"),
    supported("min_p"),
    supported("repetition_penalty"),
    supported("top_k"),
    without_effect("user", NOTHING_KEPT),
    only(
        "best_of",
        &["1"],
        "choosing among hidden answers is not implemented; ask for `n`",
    ),
    only("echo", &["false"], "repeating the prompt is not implemented"),
    only("suffix", &["\"\""], "the models do not fill in the middle"),
];

/// Refuses fields that the table does not know or does not allow.
pub(crate) fn check(fields: &Map<String, Value>, table: &[Field]) -> Result<(), ApiError> {
    for (name, value) in fields {
        let Some(field) = table.iter().find(|field| field.name == name) else {
            let nearest = nearest(name, table)
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return Err(ApiError::field(name, format!("is not a known field{nearest}")).code("unknown_parameter"));
        };
        if value.is_null() {
            continue;
        }
        match field.support {
            Support::Supported | Support::WithoutEffect(_) => {}
            Support::Only(values, _) if values.iter().any(|allowed| is_value(value, allowed)) => {}
            Support::Only(values, reason) => {
                let problem = format!("may only be {}: {reason}", values.join(" or "));
                return Err(ApiError::field(name, problem).code("unsupported_parameter"));
            }
            Support::Refused(reason) => {
                return Err(ApiError::field(name, format!("is not supported: {reason}")).code("unsupported_parameter"));
            }
        }
    }
    Ok(())
}

fn is_value(value: &Value, json: &str) -> bool {
    serde_json::from_str::<Value>(json).is_ok_and(|allowed| allowed == *value)
}

/// The field most like `name`, if one is close.
fn nearest(name: &str, table: &[Field]) -> Option<&'static str> {
    let likeness = |field: &Field| strsim::jaro_winkler(name, field.name);
    let best = table.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.85).then_some(best.name)
}
