//! HTTP over the engine, in OpenAI's wire format, with a chat page at `/`.
//!
//! | route | what |
//! |---|---|
//! | `POST /v1/chat/completions` | a conversation, streamed token by token or whole |
//! | `POST /v1/completions` | raw text, streamed or whole |
//! | `GET /v1/models`, `GET /v1/models/{id}` | the base and its adapters |
//! | `GET /health` | 200 when ready, 503 while loading or draining |
//! | `GET /` | the chat page |
//!
//! Every field OpenAI defines is in one table ([`fields`]): supported, accepted because it cannot change an
//! answer, or refused by name. Nothing is ignored in silence. Every error, also one of HTTP itself, has the
//! body `{"error": {"message", "type", "param", "code"}}`.
//!
//! What this crate is not: it neither batches nor samples (`synapse-engine`), and it reads no model folder.

mod auth;
mod body;
mod chat;
mod completions;
mod error;
pub mod fields;
mod generation;
mod identity;
mod messages;
mod models;
mod origin;
mod page;
mod params;
mod router;
mod sampling;
mod serve;
mod sse;
mod state;

pub use auth::ApiKeys;
pub use error::ServerError;
pub use router::router;
pub use serve::serve;
pub use state::{SamplingDefaults, ServerOptions, ServerState};
