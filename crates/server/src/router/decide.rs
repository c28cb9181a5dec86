//! Scores the coordinator's labels and decides where a conversation is routed.

use std::sync::Arc;
use std::time::Instant;

use synapse_engine::Engine;
use synapse_tokenizer::{ChatTokenizer, Message};

use super::config::{Swarm, SwarmLabel};
use super::decision::{Decision, Proposer, Reason};
use crate::error::ApiError;

/// User turns that are scored before the base model is chosen.
const MAX_TURNS: usize = 4;
/// Tokens of a long turn that the coordinator reads, from its beginning and from its end: the question is usually at one
/// of them.
const HEAD: usize = 192;
const TAIL: usize = 64;

impl Swarm {
    /// Decides where a conversation is routed. Scoring a turn counts as a request to the engine.
    pub(crate) async fn route(&self, engine: &Arc<Engine>, messages: &[Message]) -> Result<Decision, ApiError> {
        let start = Instant::now();
        let turns = messages.iter().rev().filter(|message| message.role == "user");
        let mut last = None;
        for (back, turn) in turns.take(MAX_TURNS).enumerate() {
            let scores = self.probabilities(engine, &turn.content).await?;
            let best = (0..scores.len()).fold(0, |best, index| if scores[index] > scores[best] { index } else { best });
            let label = &self.labels[best];
            let decision = |adapter: Option<String>, reason| Decision {
                adapter,
                reason,
                label: label.label.clone(),
                scores: self
                    .labels
                    .iter()
                    .map(|label| label.label.clone())
                    .zip(scores.iter().copied())
                    .collect(),
                milliseconds: start.elapsed().as_secs_f64() * 1e3,
                proposers: Vec::new(),
            };
            if scores[best] >= self.threshold {
                let reason = if back == 0 {
                    Reason::CurrentTurn
                } else {
                    Reason::PreviousTurn
                };
                return Ok(Decision {
                    proposers: self.proposers(label, &scores),
                    ..decision(label.adapter.clone(), reason)
                });
            }
            last.get_or_insert_with(|| decision(None, Reason::BelowThreshold));
        }
        let last = last.ok_or_else(|| ApiError::field("messages", "must hold a user message to route by"))?;
        Ok(Decision {
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
            ..last
        })
    }

    /// The adapters that write drafts for requests of this label, those with the best scores; empty if there are not at
    /// least two.
    fn proposers(&self, label: &SwarmLabel, scores: &[f64]) -> Vec<Proposer> {
        let Some(multi) = self.multi_domain.as_ref().filter(|multi| multi.label == label.label) else {
            return Vec::new();
        };
        let mut proposers: Vec<Proposer> = Vec::new();
        for (label, &score) in self.labels.iter().zip(scores) {
            let Some(adapter) = &label.adapter else { continue };
            match proposers.iter_mut().find(|known| known.adapter == *adapter) {
                Some(known) => known.score = known.score.max(score),
                None => proposers.push(Proposer {
                    adapter: adapter.clone(),
                    score,
                    draft: None,
                }),
            }
        }
        proposers.sort_by(|a, b| b.score.total_cmp(&a.score));
        proposers.truncate(multi.drafts);
        if proposers.len() < 2 { Vec::new() } else { proposers }
    }

    /// The probabilities of all labels for one turn.
    async fn probabilities(&self, engine: &Arc<Engine>, turn: &str) -> Result<Vec<f64>, ApiError> {
        let mut permit = engine
            .admit(1)
            .map_err(|error| ApiError::from_engine(&error, "messages"))?;
        let (swarm, shared, turn) = (self.clone(), Arc::clone(engine), turn.to_owned());
        // Tokenizing a long turn would block the other connections of an async thread.
        let receiver = tokio::task::spawn_blocking(move || {
            let chat = shared.chat();
            let encoded = swarm.encode(chat, &turn);
            let (prompt, answers) = encoded.map_err(|error| ApiError::from_chat(&error, "messages"))?;
            shared
                .score(prompt, answers, Some(&swarm.coordinator), &mut permit)
                .map_err(|error| ApiError::from_engine(&error, "messages"))
        });
        let receiver = receiver
            .await
            .map_err(|_| ApiError::internal("encoding the turn panicked"))??;
        let scores = receiver
            .await
            .map_err(|_| ApiError::unavailable("the server shut down before the request was routed", "stopped"))?
            .map_err(|error| ApiError::from_engine(&error, "messages"))?;
        Ok(softmax(&scores))
    }

    /// The coordinator's prompt for a turn, and the answers to score.
    fn encode(&self, chat: &ChatTokenizer, turn: &str) -> synapse_tokenizer::Result<(Vec<u32>, Vec<Vec<u32>>)> {
        let tokens = chat.encode_text(turn)?;
        let turn = if tokens.len() > HEAD + TAIL {
            let (head, tail) = (&tokens[..HEAD], &tokens[tokens.len() - TAIL..]);
            format!("{} … {}", chat.decode(head, true)?, chat.decode(tail, true)?)
        } else {
            turn.to_owned()
        };
        let messages = [Message::new("system", &self.system_prompt), Message::new("user", turn)];
        let prompt = chat.without_thoughts().encode_prompt(&messages)?;
        let answers = self.labels.iter().map(|label| chat.encode_text(&label.answer));
        Ok((prompt, answers.collect::<synapse_tokenizer::Result<_>>()?))
    }
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}
