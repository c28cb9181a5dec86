//! The fields of all requests and how the server treats each; /openapi.json is generated from these tables.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// What the server does with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Has the effect that OpenAI documents; this JSON Schema describes its values.
    Supported(&'static str),
    /// Any value is accepted, because none can change the answer; with the reason.
    WithoutEffect(&'static str),
    /// Only these values, written as JSON, are accepted, because they change nothing; with the reason.
    Only(&'static [&'static str], &'static str),
    /// Refused by name; with the reason.
    Refused(&'static str),
}

/// A field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in the request.
    pub name: &'static str,
    /// What the server does with it.
    pub support: Support,
}

const fn supported(name: &'static str, schema: &'static str) -> Field {
    Field {
        name,
        support: Support::Supported(schema),
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

const USE_TOOLS: &str = "the older form of `tools`, which replaced it";
const NOTHING_STORED: &str = "nothing about requests is stored";
const CACHING: &str = "caching never changes an answer";

const BOOLEAN: &str = r#"{"type":"boolean"}"#;
const STRING: &str = r#"{"type":"string"}"#;
const COUNT: &str = r#"{"type":"integer","minimum":0}"#;
const AT_LEAST_ONE: &str = r#"{"type":"integer","minimum":1}"#;
const FRACTION: &str = r#"{"type":"number","minimum":0,"maximum":1}"#;
const PENALTY: &str = r#"{"type":"number","minimum":-2,"maximum":2}"#;
const MESSAGES: &str = r##"{"type":"array","minItems":1,"items":{"$ref":"#/components/schemas/Message"}}"##;
const TOOLS: &str = r##"{"type":"array","maxItems":128,"items":{"$ref":"#/components/schemas/Tool"}}"##;
/// One text or several, each as a string or as token ids.
const TEXTS: &str = r##"{"anyOf":[{"type":"string","minLength":1},{"$ref":"#/components/schemas/TokenIds"},{"type":"array","minItems":1,"items":{"anyOf":[{"type":"string","minLength":1},{"$ref":"#/components/schemas/TokenIds"}]}}]}"##;

/// The sampling fields that both completion routes share.
const FREQUENCY_PENALTY: Field = supported("frequency_penalty", PENALTY);
const LOGIT_BIAS: Field = supported(
    "logit_bias",
    r#"{"type":"object","additionalProperties":{"type":["number","null"],"minimum":-100,"maximum":100}}"#,
);
const MAX_TOKENS: Field = supported("max_tokens", AT_LEAST_ONE);
const MODEL: Field = supported("model", STRING);
const N: Field = supported("n", AT_LEAST_ONE);
const PRESENCE_PENALTY: Field = supported("presence_penalty", PENALTY);
const SEED: Field = supported(
    "seed",
    r#"{"type":"integer","minimum":-9223372036854775808,"maximum":18446744073709551615}"#,
);
const STOP: Field = supported(
    "stop",
    r#"{"anyOf":[{"type":"string","minLength":1,"maxLength":64},{"type":"array","maxItems":16,"items":{"type":"string","minLength":1,"maxLength":64}}]}"#,
);
const STREAM: Field = supported("stream", BOOLEAN);
const STREAM_OPTIONS: Field = supported(
    "stream_options",
    r#"{"type":"object","properties":{"include_usage":{"type":["boolean","null"]},"include_obfuscation":{"enum":[false,null]}},"additionalProperties":false}"#,
);
const TEMPERATURE: Field = supported("temperature", r#"{"type":"number","minimum":0,"maximum":2}"#);
const TOP_P: Field = supported("top_p", FRACTION);
// Not OpenAI's, but what vLLM and llama.cpp call them.
const IGNORE_EOS: Field = supported("ignore_eos", BOOLEAN);
const MIN_P: Field = supported("min_p", FRACTION);
const REPETITION_PENALTY: Field = supported("repetition_penalty", r#"{"type":"number","minimum":0.1,"maximum":10}"#);
const TOP_K: Field = supported("top_k", COUNT);
const TEMPLATE_ARGUMENTS: Field = supported(crate::prompts::TEMPLATE_ARGUMENTS, r#"{"type":"object"}"#);
const USER: Field = without_effect("user", NOTHING_STORED);

/// The fields of `POST /v1/chat/completions`.
pub const CHAT: &[Field] = &[
    TEMPLATE_ARGUMENTS,
    FREQUENCY_PENALTY,
    LOGIT_BIAS,
    supported("logprobs", BOOLEAN),
    supported("max_completion_tokens", AT_LEAST_ONE),
    MAX_TOKENS,
    supported("messages", MESSAGES),
    MODEL,
    N,
    supported("parallel_tool_calls", BOOLEAN),
    PRESENCE_PENALTY,
    supported("response_format", r##"{"$ref":"#/components/schemas/ResponseFormat"}"##),
    SEED,
    STOP,
    STREAM,
    STREAM_OPTIONS,
    TEMPERATURE,
    supported("tool_choice", r##"{"$ref":"#/components/schemas/ToolChoice"}"##),
    supported("tools", TOOLS),
    supported("top_logprobs", r#"{"type":"integer","minimum":0,"maximum":20}"#),
    TOP_P,
    IGNORE_EOS,
    MIN_P,
    REPETITION_PENALTY,
    TOP_K,
    without_effect("metadata", NOTHING_STORED),
    without_effect("prediction", "predicted outputs do not change the answer"),
    without_effect("prompt_cache_key", CACHING),
    without_effect("prompt_cache_options", CACHING),
    without_effect("prompt_cache_retention", CACHING),
    without_effect("safety_identifier", NOTHING_STORED),
    USER,
    only("function_call", &["\"none\"", "\"auto\""], USE_TOOLS),
    only("functions", &["[]"], USE_TOOLS),
    only("modalities", &["[\"text\"]"], "the models read and write text"),
    only(
        "reasoning_effort",
        &["\"none\""],
        "the models do not reason before they answer",
    ),
    only("service_tier", &["\"auto\"", "\"default\""], "there is one tier"),
    only("store", &["false"], NOTHING_STORED),
    only("verbosity", &["\"medium\""], "the models have no verbosity setting"),
    refused("audio", "the models read and write text"),
    refused("moderation", "there is no moderation model"),
    refused("web_search_options", "searching the web is not implemented"),
];

/// The fields of `POST /v1/completions`.
pub const COMPLETIONS: &[Field] = &[
    FREQUENCY_PENALTY,
    LOGIT_BIAS,
    supported("logprobs", r#"{"type":"integer","minimum":0,"maximum":20}"#),
    // 0 with `echo`.
    supported("max_tokens", COUNT),
    MODEL,
    N,
    PRESENCE_PENALTY,
    supported("prompt", TEXTS),
    SEED,
    STOP,
    STREAM,
    STREAM_OPTIONS,
    TEMPERATURE,
    TOP_P,
    IGNORE_EOS,
    MIN_P,
    REPETITION_PENALTY,
    TOP_K,
    USER,
    supported("best_of", AT_LEAST_ONE),
    supported("echo", BOOLEAN),
    only("suffix", &["\"\""], "the models do not fill in the middle"),
];

/// The fields of `POST /v1/embeddings`.
pub const EMBEDDINGS: &[Field] = &[
    supported("dimensions", AT_LEAST_ONE),
    supported("encoding_format", r#"{"enum":["float","base64"]}"#),
    supported("input", TEXTS),
    MODEL,
    USER,
];

/// The fields of `POST /tokenize`, which are vLLM's.
pub const TOKENIZE: &[Field] = &[
    TEMPLATE_ARGUMENTS,
    supported("messages", MESSAGES),
    MODEL,
    supported("prompt", STRING),
    supported("return_token_strs", BOOLEAN),
    supported("tools", TOOLS),
    only(
        "add_generation_prompt",
        &["true"],
        "a conversation is tokenized as it is answered",
    ),
    only(
        "add_special_tokens",
        &["true"],
        "a text is tokenized as it is completed",
    ),
];

/// The fields of `POST /detokenize`.
pub const DETOKENIZE: &[Field] = &[
    MODEL,
    supported("tokens", r##"{"$ref":"#/components/schemas/TokenIds"}"##),
];

/// The fields of `POST /v1/models/trace`.
pub const MODULE_TRACE: &[Field] = &[
    TEMPLATE_ARGUMENTS,
    supported("answer", STRING),
    supported("messages", MESSAGES),
    MODEL,
    supported("prompt", STRING),
    supported("tools", TOOLS),
];

/// The fields of `POST /v1/adapters`.
pub const ADAPTERS: &[Field] = &[
    supported("expected_generation", STRING),
    supported("name", r#"{"type":"string","minLength":1,"maxLength":128}"#),
    supported("path", r#"{"type":"string","minLength":1}"#),
];

/// Refuses fields that are not in the table, and values that it does not allow.
pub(crate) fn check(fields: &Map<String, Value>, table: &[Field]) -> Result<(), ApiError> {
    for (name, value) in fields {
        // Clients write null for fields that they know and we do not.
        if value.is_null() {
            continue;
        }
        let Some(field) = table.iter().find(|field| field.name == name) else {
            let nearest = nearest(name, table)
                .map(|near| format!("; did you mean `{near}`?"))
                .unwrap_or_default();
            return Err(ApiError::field(name, format!("is not a known field{nearest}")).code("unknown_parameter"));
        };
        match field.support {
            Support::Supported(_) | Support::WithoutEffect(_) => {}
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

/// The most similar field name, if one is close.
fn nearest(name: &str, table: &[Field]) -> Option<&'static str> {
    let similarity = |field: &Field| strsim::jaro_winkler(name, field.name);
    let best = table.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(best) > 0.85).then_some(best.name)
}
