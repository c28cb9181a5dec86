//! The server on a real loopback port, spoken to in raw HTTP.

#![expect(clippy::unwrap_used, reason = "tests")]

mod chat;
mod client;
mod completions;
mod errors;
mod fields;
mod lifecycle;
mod safety;
mod streaming;
#[path = "../../../engine/tests/support/mod.rs"]
mod support;
