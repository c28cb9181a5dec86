//! Routes a conversation to the adapter that fits it, under one model name.
//!
//! One adapter, the coordinator, was trained to answer a request with the label of the specialist it belongs to. Here it
//! does not generate: each label's answer is scored, and the softmax over all labels gives their probabilities. If the best
//! label stays below a threshold, the previous user turn decides, so that "and shorter, please" stays with the same
//! specialist; if no turn is clear, the base model answers. A decision depends on the conversation alone: nothing is
//! remembered between requests, and the same conversation is always routed the same way.
//!
//! One label can stand for requests that belong to several specialists. Then those with the best scores write drafts
//! (`aggregation`).

mod config;
mod decide;
mod decision;
pub(crate) mod http;
mod log;

pub(crate) use config::BASE;
pub use config::{MultiDomain, Swarm, SwarmLabel};
pub(crate) use decision::{Decision, Draft};
pub(crate) use log::{DecisionLog, LogEntry};
