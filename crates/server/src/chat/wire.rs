//! How a conversation's answers are written: whole or in chunks, with log-probabilities and calls.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use synapse_engine::{Engine, FinishReason, Token, TokenLogprob, Usage};

use crate::calls::{Call, CallParser, Part};
use crate::error::ApiError;
use crate::generation::{Answer, Choices, finish_reason};
use crate::identity;
use crate::sse::Transcript;
use crate::swarm::Decision;
use crate::synthesis::Draft;

/// Writes answers as OpenAI does.
pub(super) struct Wire {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    /// Where the swarm sent it, if it was asked.
    pub(super) routing: Option<Decision>,
    /// Whether the next chunk says it again, because it knows more.
    pub(super) routing_is_news: bool,
    pub(super) logprobs: bool,
    pub(super) include_usage: bool,
    /// Where tools may be called: one for each answer that streams.
    pub(super) parsers: Option<Vec<CallParser>>,
    pub(super) engine: Arc<Engine>,
}

impl Wire {
    pub(super) async fn whole(&self, choices: Choices) -> Result<Response, ApiError> {
        let (answers, total) = choices.collect().await?;
        let choices = answers
            .iter()
            .enumerate()
            .map(|(index, answer)| self.choice(index, answer));
        let choices: Vec<Value> = choices.collect();
        let mut body = json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": usage(total),
        });
        if let Some(decision) = &self.routing {
            body["synapse"] = decision.body();
        }
        Ok(Json(body).into_response())
    }

    fn choice(&self, index: usize, answer: &Answer) -> Value {
        let (mut content, mut calls) = (String::new(), Vec::new());
        if self.parsers.is_some() {
            let mut parser = CallParser::default();
            for part in parser.push(&answer.text()).into_iter().chain(parser.finish()) {
                match part {
                    Part::Content(text) => content += &text,
                    Part::Call(call) => calls.push(tool_call(&call)),
                }
            }
        } else {
            content = answer.text();
        }
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !calls.is_empty() {
            if content.is_empty() {
                message["content"] = Value::Null;
            }
            message["tool_calls"] = Value::from(calls.clone());
        }
        json!({
            "index": index,
            "message": message,
            "logprobs": self.logprobs(&answer.tokens),
            "finish_reason": answer.reason.map(|reason| end(reason, calls.len())),
        })
    }

    /// `null` unless asked for.
    fn logprobs(&self, tokens: &[Token]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        let content: Vec<Value> = tokens
            .iter()
            .filter_map(|token| Some(self.logprob(token.id, token.logprob.as_ref()?)))
            .collect();
        json!({ "content": content, "refusal": null })
    }

    fn logprob(&self, id: u32, logprob: &TokenLogprob) -> Value {
        let top: Vec<Value> = logprob
            .top
            .iter()
            .map(|&(id, logprob)| self.token_logprob(id, logprob))
            .collect();
        let mut entry = self.token_logprob(id, logprob.logprob);
        entry["top_logprobs"] = top.into();
        entry
    }

    /// A token that is only part of a character has a text of U+FFFD, and bytes that say which part.
    fn token_logprob(&self, id: u32, logprob: f32) -> Value {
        let chat = self.engine.chat();
        json!({ "token": chat.token_text(id), "logprob": logprob, "bytes": chat.token_bytes(id) })
    }

    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn delta(&self, choice: usize, delta: &Value, logprobs: &Value, reason: Option<&str>) -> Value {
        let choice = json!({ "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason });
        self.chunk(&json!([choice]))
    }

    /// Chunks, the first of which says what is new about the routing.
    fn with_news(&mut self, mut chunks: Vec<Value>) -> Vec<Value> {
        if let (true, Some(decision), Some(first)) = (self.routing_is_news, &self.routing, chunks.first_mut()) {
            first["synapse"] = decision.body();
            self.routing_is_news = false;
        }
        chunks
    }

    /// A step's delta for each part of it; the first carries the log-probabilities.
    fn deltas(&mut self, choice: usize, parts: Vec<Part>, logprobs: &Value) -> Vec<Value> {
        let first_call = self.calls(choice) - parts.iter().filter(|part| matches!(part, Part::Call(_))).count();
        let (mut calls, mut chunks) = (first_call, Vec::new());
        for part in parts {
            let delta = match part {
                Part::Content(text) => json!({ "content": text }),
                Part::Call(call) => {
                    // Clients join what repeats, so everything comes once.
                    let mut delta = tool_call(&call);
                    delta["index"] = calls.into();
                    calls += 1;
                    json!({ "tool_calls": [delta] })
                }
            };
            let logprobs = if chunks.is_empty() { logprobs } else { &Value::Null };
            chunks.push(self.delta(choice, &delta, logprobs, None));
        }
        chunks
    }

    /// Calls that an answer has made so far.
    fn calls(&self, choice: usize) -> usize {
        self.parsers.as_ref().map_or(0, |parsers| parsers[choice].calls())
    }
}

/// A call under an id of its own.
fn tool_call(call: &Call) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": identity::random_id("call_"), "type": "function", "function": function })
}

/// OpenAI's word for why an answer ended that made so many calls.
fn end(reason: FinishReason, calls: usize) -> &'static str {
    match reason {
        FinishReason::Stop if calls > 0 => "tool_calls",
        reason => finish_reason(reason),
    }
}

/// OpenAI's usage object.
pub(crate) fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": { "cached_tokens": usage.cached_tokens },
    })
}

impl Transcript for Wire {
    /// The role comes once: clients join repeated strings.
    fn opening(&mut self, choices: usize) -> Vec<Value> {
        if let Some(parsers) = &mut self.parsers {
            parsers.resize_with(choices, CallParser::default);
        }
        let delta = json!({ "role": "assistant", "content": "" });
        let opening = |choice| {
            let mut chunk = self.delta(choice, &delta, &Value::Null, None);
            if let Some(decision) = &self.routing {
                chunk["synapse"] = decision.body();
            }
            chunk
        };
        (0..choices).map(opening).collect()
    }

    fn drafted(&mut self, drafts: Vec<Draft>) {
        if let Some(decision) = &mut self.routing {
            decision.drafted(drafts);
            self.routing_is_news = true;
        }
    }

    fn token(&mut self, choice: usize, token: &Token) -> Vec<Value> {
        let mut parts = match &mut self.parsers {
            Some(parsers) => parsers[choice].push(&token.text),
            None if token.text.is_empty() => Vec::new(),
            None => vec![Part::Content(token.text.clone())],
        };
        if parts.is_empty() && token.logprob.is_some() {
            parts.push(Part::Content(String::new()));
        }
        let logprobs = self.logprobs(std::slice::from_ref(token));
        let chunks = self.deltas(choice, parts, &logprobs);
        self.with_news(chunks)
    }

    fn finish(&mut self, choice: usize, reason: FinishReason) -> Vec<Value> {
        let rest = match &mut self.parsers {
            Some(parsers) => parsers[choice].finish(),
            None => Vec::new(),
        };
        let mut chunks = self.deltas(choice, rest, &Value::Null);
        let reason = end(reason, self.calls(choice));
        chunks.push(self.delta(choice, &json!({}), &Value::Null, Some(reason)));
        self.with_news(chunks)
    }

    fn closing(&mut self, total: Usage) -> Option<Value> {
        self.include_usage.then(|| {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = usage(total);
            chunk
        })
    }
}
