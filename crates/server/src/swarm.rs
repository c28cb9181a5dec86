//! The swarm: a model name under which each conversation goes to the adapter that fits it.
//!
//! One adapter, the coordinator, was trained to answer a request with the label of the specialist it belongs to. It is not
//! asked for that answer: the label whose answer is likeliest under it is taken, with the softmax over all labels as its
//! probability. Below a threshold nothing is taken from it; then the turn before decides, so that "and shorter, please"
//! stays where the conversation was, and the base answers if no turn was clear. All of this follows from the conversation
//! alone: nothing is remembered between requests, and the same conversation always goes the same way.
//!
//! One label may mean that a request belongs to several specialists: then those of the highest scores are asked for drafts
//! (`synthesis`).

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use synapse_engine::Engine;
use synapse_tokenizer::{ChatTokenizer, Message};

use crate::error::ApiError;
use crate::generation::finish_reason;
use crate::synthesis::Draft;

/// Turns of a conversation that are looked at before the base answers.
const MOST_TURNS: usize = 4;
/// Tokens of a turn that the coordinator reads, from its beginning and from its end: what is asked stands at either.
const HEAD: usize = 192;
const TAIL: usize = 64;
/// The pinned name of the base, and the word for it in decisions.
pub(crate) const BASE: &str = "base";

/// How a server's swarm is asked and what its labels mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Swarm {
    /// The model name that routes.
    pub name: String,
    /// The adapter that knows the labels.
    pub coordinator: String,
    /// The system turn it was trained with.
    pub system_prompt: String,
    /// Its labels, at least one.
    pub labels: Vec<SwarmLabel>,
    /// Probability that a label needs to decide.
    pub threshold: f64,
    /// Which label asks several specialists; `None` asks one at a time.
    pub several: Option<Several>,
}

/// The label whose requests belong to more than one specialist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Several {
    /// Its name; it leads to no adapter itself.
    pub label: String,
    /// Specialists that are asked for a draft, those of the highest scores; at least 2.
    pub drafts: usize,
}

/// One label of a coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmLabel {
    /// Its name.
    pub label: String,
    /// What the coordinator was trained to answer for it.
    pub answer: String,
    /// The adapter that requests with this label go to; `None` is the base.
    pub adapter: Option<String>,
}

/// Where a conversation went, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) adapter: Option<String>,
    pub(crate) reason: Reason,
    /// The likeliest label of the turn that decided, or of the last one where none did.
    pub(crate) label: String,
    /// Probabilities of all labels for that turn.
    pub(crate) scores: Vec<(String, f64)>,
    pub(crate) milliseconds: f64,
    /// Specialists that are asked for a draft first, the likeliest first.
    pub(crate) asked: Vec<Asked>,
}

/// A specialist that drafts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) adapter: String,
    /// The probability of its label.
    pub(crate) score: f64,
    /// Once it is written.
    pub(crate) draft: Option<Draft>,
}

/// What a decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// The last turn.
    Routed,
    /// An earlier turn, because the last one was not clear.
    Kept,
    /// No turn was clear: the base.
    Unsure,
}

impl Reason {
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Kept => "kept",
            Self::Unsure => "unsure",
        }
    }
}

impl Decision {
    /// The adapter's name, or the base's word.
    pub(crate) fn target(&self) -> &str {
        self.adapter.as_deref().unwrap_or(BASE)
    }

    /// What an answer says of it.
    pub(crate) fn body(&self) -> Value {
        let scores: serde_json::Map<String, Value> = self
            .scores
            .iter()
            .map(|(label, score)| (label.clone(), Value::from(*score)))
            .collect();
        let mut body = json!({
            "adapter": self.target(),
            "reason": self.reason.id(),
            "label": self.label,
            "scores": scores,
            "router_ms": self.milliseconds,
        });
        if !self.asked.is_empty() {
            body["drafts"] = self.asked.iter().map(Asked::body).collect();
        }
        body
    }

    /// Takes the drafts, in the order of those asked.
    pub(crate) fn drafted(&mut self, drafts: Vec<Draft>) {
        for (asked, draft) in self.asked.iter_mut().zip(drafts) {
            asked.draft = Some(draft);
        }
    }
}

impl Asked {
    fn body(&self) -> Value {
        let mut body = json!({ "adapter": self.adapter, "score": self.score });
        if let Some(draft) = &self.draft {
            body["tokens"] = draft.tokens.into();
            body["finish_reason"] = draft.reason.map(finish_reason).into();
            body["text"] = draft.text.as_str().into();
        }
        body
    }
}

impl Swarm {
    /// The model name that means one of its members, `NAME:adapter`.
    pub(crate) fn pinned<'m>(&self, model: &'m str) -> Option<&'m str> {
        model.strip_prefix(self.name.as_str())?.strip_prefix(':')
    }

    /// The model name that leads to an adapter without asking.
    pub(crate) fn pin(&self, target: &str) -> String {
        format!("{}:{target}", self.name)
    }

    /// Decides where a conversation goes; each look at a turn takes a place in the engine while it lasts.
    pub(crate) async fn route(&self, engine: &Arc<Engine>, messages: &[Message]) -> Result<Decision, ApiError> {
        let start = Instant::now();
        let turns = messages.iter().rev().filter(|message| message.role == "user");
        let mut last = None;
        for (back, turn) in turns.take(MOST_TURNS).enumerate() {
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
                asked: Vec::new(),
            };
            if scores[best] >= self.threshold {
                let reason = if back == 0 { Reason::Routed } else { Reason::Kept };
                return Ok(Decision {
                    asked: self.asked(label, &scores),
                    ..decision(label.adapter.clone(), reason)
                });
            }
            last.get_or_insert_with(|| decision(None, Reason::Unsure));
        }
        let last = last.ok_or_else(|| ApiError::field("messages", "needs a user turn to route by"))?;
        Ok(Decision {
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
            ..last
        })
    }

    /// Who drafts for requests of this label: nobody, or the specialists of the highest scores. One alone is no panel.
    fn asked(&self, label: &SwarmLabel, scores: &[f64]) -> Vec<Asked> {
        let Some(several) = self.several.as_ref().filter(|several| several.label == label.label) else {
            return Vec::new();
        };
        let mut asked: Vec<Asked> = Vec::new();
        for (label, &score) in self.labels.iter().zip(scores) {
            let Some(adapter) = &label.adapter else { continue };
            match asked.iter_mut().find(|asked| asked.adapter == *adapter) {
                Some(known) => known.score = known.score.max(score),
                None => asked.push(Asked {
                    adapter: adapter.clone(),
                    score,
                    draft: None,
                }),
            }
        }
        asked.sort_by(|a, b| b.score.total_cmp(&a.score));
        asked.truncate(several.drafts);
        if asked.len() < 2 { Vec::new() } else { asked }
    }

    /// The probabilities of all labels for one turn.
    async fn probabilities(&self, engine: &Arc<Engine>, turn: &str) -> Result<Vec<f64>, ApiError> {
        let mut permits = engine
            .admit(1)
            .map_err(|error| ApiError::from_engine(&error, "messages"))?;
        let (swarm, shared, turn) = (self.clone(), Arc::clone(engine), turn.to_owned());
        // A long turn takes long enough to tokenize to hold up every other connection of a thread.
        let receiver = tokio::task::spawn_blocking(move || {
            let chat = shared.chat();
            let encoded = swarm.encode(chat, &turn);
            let (prompt, answers) = encoded.map_err(|error| ApiError::from_chat(&error, "messages"))?;
            shared
                .score(prompt, answers, Some(&swarm.coordinator), &mut permits)
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

    /// The routing request for a turn, and the answers it may have.
    fn encode(&self, chat: &ChatTokenizer, turn: &str) -> synapse_tokenizer::Result<(Vec<u32>, Vec<Vec<u32>>)> {
        let tokens = chat.encode_text(turn)?;
        let turn = if tokens.len() > HEAD + TAIL {
            let (head, tail) = (&tokens[..HEAD], &tokens[tokens.len() - TAIL..]);
            format!("{} … {}", chat.decode(head, true)?, chat.decode(tail, true)?)
        } else {
            turn.to_owned()
        };
        let messages = [Message::new("system", &self.system_prompt), Message::new("user", turn)];
        let prompt = chat.encode_prompt(&messages)?;
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
