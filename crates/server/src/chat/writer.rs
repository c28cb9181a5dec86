//! Writes the completions of a conversation, whole or in chunks, with log-probabilities and tool calls.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use synapse_engine::{Completion, Engine, FinishReason, Token, TokenLogprob, Usage};

use crate::answer::AnswerParser;
use crate::calls::{Call, Part};
use crate::error::ApiError;
use crate::generation::Completions;
use crate::identity;
use crate::router::{Decision, Draft};
use crate::sse::ChunkWriter;
use crate::wire::{Envelope, finish_reason};

/// The `object` of a chunk.
const CHUNK: &str = "chat.completion.chunk";

/// Writes completions in OpenAI's format.
pub(super) struct ChatWriter {
    pub(super) envelope: Envelope,
    /// Where the swarm routed the conversation, if it was asked.
    pub(super) decision: Option<Decision>,
    /// Whether the next chunk repeats the decision, because drafts were added.
    pub(super) decision_has_news: bool,
    pub(super) logprobs: bool,
    /// How an answer is taken apart.
    pub(super) parser: AnswerParser,
    /// One parser for each streamed completion.
    pub(super) parsers: Vec<AnswerParser>,
    pub(super) engine: Arc<Engine>,
}

impl ChatWriter {
    pub(super) async fn whole(&self, completions: Completions) -> Result<Response, ApiError> {
        let (completions, total) = completions.collect().await?;
        let choices = completions.iter().enumerate();
        let choices: Value = choices
            .map(|(index, completion)| self.choice(index, completion))
            .collect();
        let mut body = self.envelope.whole("chat.completion", &choices, total);
        if let Some(decision) = &self.decision {
            body["synapse"] = decision.body();
        }
        Ok(Json(body).into_response())
    }

    fn choice(&self, index: usize, completion: &Completion) -> Value {
        let (mut thought, mut content, mut calls) = (String::new(), String::new(), Vec::new());
        let mut parser = self.parser.clone();
        let mut parts = parser.push(&completion.text);
        parts.extend(parser.finish(completion.finish_reason == FinishReason::Length));
        for part in parts {
            match part {
                Part::Thought(text) => thought += &text,
                Part::Content(text) => content += &text,
                Part::Call(call) => calls.push(tool_call(&call)),
            }
        }
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !thought.is_empty() {
            message["reasoning_content"] = thought.into();
        }
        if !calls.is_empty() {
            if content.is_empty() {
                message["content"] = Value::Null;
            }
            message["tool_calls"] = Value::from(calls);
        }
        json!({
            "index": index,
            "message": message,
            "logprobs": self.logprobs(&completion.tokens),
            "finish_reason": reason_with_calls(completion.finish_reason, &parser),
        })
    }

    /// `null` unless requested.
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

    /// A token that is part of a character has the text U+FFFD and the bytes of that part.
    fn token_logprob(&self, id: u32, logprob: f32) -> Value {
        let chat = self.engine.chat();
        json!({ "token": chat.token_text(id), "logprob": logprob, "bytes": chat.token_bytes(id) })
    }

    fn delta(&self, choice: usize, delta: &Value, logprobs: &Value, reason: Option<&str>) -> Value {
        let choice = json!({ "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason });
        self.envelope.chunk(CHUNK, &json!([choice]))
    }

    /// Adds the decision to the first of these chunks, if it has news.
    fn with_news(&mut self, mut chunks: Vec<Value>) -> Vec<Value> {
        if let (true, Some(decision), Some(first)) = (self.decision_has_news, &self.decision, chunks.first_mut()) {
            first["synapse"] = decision.body();
            self.decision_has_news = false;
        }
        chunks
    }

    /// A chunk for each part; the first has the log-probabilities.
    fn deltas(&mut self, choice: usize, parts: Vec<Part>, logprobs: &Value) -> Vec<Value> {
        let first_call = self.calls(choice) - parts.iter().filter(|part| matches!(part, Part::Call(_))).count();
        let (mut calls, mut chunks) = (first_call, Vec::new());
        for part in parts {
            let delta = match part {
                Part::Thought(text) => json!({ "reasoning_content": text }),
                Part::Content(text) => json!({ "content": text }),
                Part::Call(call) => {
                    // Clients concatenate repeated fields, so each field is sent once.
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

    /// The number of calls in a completion so far.
    fn calls(&self, choice: usize) -> usize {
        self.parsers[choice].calls()
    }
}

/// A call with a new id.
fn tool_call(call: &Call) -> Value {
    let function = json!({ "name": call.name, "arguments": call.arguments });
    json!({ "id": identity::random_id("call_"), "type": "function", "function": function })
}

/// OpenAI's name for why a completion with these calls ended. A call that a stop string cuts off is not one to make.
fn reason_with_calls(reason: FinishReason, parser: &AnswerParser) -> &'static str {
    match reason {
        FinishReason::Stop if parser.calls() > 0 && !parser.is_cut() => "tool_calls",
        reason => finish_reason(reason),
    }
}

impl ChunkWriter for ChatWriter {
    /// The role is sent once: clients concatenate repeated strings.
    fn opening(&mut self, choices: usize) -> Vec<Value> {
        self.parsers.resize(choices, self.parser.clone());
        let delta = json!({ "role": "assistant", "content": "" });
        let opening = |choice| {
            let mut chunk = self.delta(choice, &delta, &Value::Null, None);
            if let Some(decision) = &self.decision {
                chunk["synapse"] = decision.body();
            }
            chunk
        };
        (0..choices).map(opening).collect()
    }

    fn drafts(&mut self, drafts: Vec<Draft>) {
        if let Some(decision) = &mut self.decision {
            decision.add_drafts(drafts);
            self.decision_has_news = true;
        }
    }

    fn token(&mut self, choice: usize, token: &Token) -> Vec<Value> {
        let mut parts = self.parsers[choice].push(&token.text);
        if parts.is_empty() && token.logprob.is_some() {
            parts.push(Part::Content(String::new()));
        }
        let logprobs = self.logprobs(std::slice::from_ref(token));
        let chunks = self.deltas(choice, parts, &logprobs);
        self.with_news(chunks)
    }

    fn finish(&mut self, choice: usize, reason: FinishReason) -> Vec<Value> {
        let rest = self.parsers[choice].finish(reason == FinishReason::Length);
        let mut chunks = self.deltas(choice, rest, &Value::Null);
        let reason = reason_with_calls(reason, &self.parsers[choice]);
        chunks.push(self.delta(choice, &json!({}), &Value::Null, Some(reason)));
        self.with_news(chunks)
    }

    fn closing(&mut self, total: Usage) -> Option<Value> {
        self.envelope.usage_chunk(CHUNK, total)
    }
}
