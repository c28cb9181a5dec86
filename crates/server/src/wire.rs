//! The parts of OpenAI's response format that both completion routes share.

use serde_json::{Value, json};
use synapse_engine::{FinishReason, Usage};

use crate::identity;

/// The fields that the whole response and all chunks of one request have in common.
#[derive(Debug)]
pub(crate) struct Envelope {
    id: String,
    created: u64,
    model: String,
    /// Whether the stream ends with a chunk that holds the usage.
    include_usage: bool,
}

impl Envelope {
    pub(crate) fn new(id_prefix: &str, model: String, include_usage: bool) -> Self {
        Self {
            id: identity::random_id(id_prefix),
            created: identity::unix_seconds(),
            model,
            include_usage,
        }
    }

    /// A whole response.
    pub(crate) fn whole(&self, object: &str, choices: &Value, total: Usage) -> Value {
        let mut body = self.object(object, choices);
        body["usage"] = usage(total);
        body
    }

    /// A chunk of a stream.
    pub(crate) fn chunk(&self, object: &str, choices: &Value) -> Value {
        let mut chunk = self.object(object, choices);
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The last chunk, if the client asked for the usage.
    pub(crate) fn usage_chunk(&self, object: &str, total: Usage) -> Option<Value> {
        self.include_usage.then(|| self.whole(object, &json!([]), total))
    }

    fn object(&self, object: &str, choices: &Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }
}

/// OpenAI's usage object.
fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    })
}

/// OpenAI's name for why a completion ended.
pub(crate) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length | FinishReason::Cancelled => "length",
    }
}
