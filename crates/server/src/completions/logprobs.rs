//! The log-probabilities of `POST /v1/completions`: one entry per token in each of four arrays.

use serde_json::{Map, Value, json};
use synapse_engine::TokenLogprob;
use synapse_tokenizer::ChatTokenizer;

/// OpenAI's arrays of log-probabilities, with an entry for each token.
#[derive(Default)]
pub(super) struct Logprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<Value>,
    top_logprobs: Vec<Value>,
    text_offset: Vec<usize>,
}

impl Logprobs {
    /// The alternatives of a token include the token itself.
    pub(super) fn push(&mut self, chat: &ChatTokenizer, id: u32, logprob: Option<&TokenLogprob>, offset: usize) {
        let text = chat.token_text(id);
        let mut alternatives: Map<String, Value> = Map::new();
        if let Some(logprob) = logprob {
            for &(id, logprob) in &logprob.top {
                // Parts of characters share the text U+FFFD; the most likely one keeps it.
                alternatives
                    .entry(chat.token_text(id))
                    .or_insert_with(|| json!(logprob));
            }
            alternatives
                .entry(text.clone())
                .or_insert_with(|| json!(logprob.logprob));
        }
        self.tokens.push(text);
        self.token_logprobs.push(json!(logprob.map(|logprob| logprob.logprob)));
        self.top_logprobs.push(match logprob {
            Some(_) => alternatives.into(),
            None => Value::Null,
        });
        self.text_offset.push(offset);
    }

    pub(super) fn into_json(self) -> Value {
        json!({
            "tokens": self.tokens,
            "token_logprobs": self.token_logprobs,
            "top_logprobs": self.top_logprobs,
            "text_offset": self.text_offset,
        })
    }
}
