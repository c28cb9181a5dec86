//! The server on a real loopback port, spoken to in raw HTTP.

#![expect(clippy::unwrap_used, reason = "tests")]

mod adapters;
mod chat;
mod client;
mod completions;
mod drafts;
mod embeddings;
mod errors;
mod fields;
mod lifecycle;
mod metrics;
mod openapi;
mod safety;
mod schema;
mod streaming;
mod structured;
#[path = "../../../engine/tests/support/mod.rs"]
mod support;
mod swarm;
mod thoughts;
mod tokens;
