//! HTTP over the engine, in OpenAI's wire format, with a chat page at `/`.
//!
//! | route | what |
//! |---|---|
//! | `POST /v1/chat/completions` | a conversation, streamed token by token or whole |
//! | `POST /v1/completions` | raw text, streamed or whole |
//! | `POST /v1/embeddings` | texts as vectors of length 1 |
//! | `GET /v1/models`, `GET /v1/models/{id}` | the base and its adapters |
//! | `GET /v1/routing/trace` | the swarm's last decisions |
//! | `POST /v1/routing/trace` | what each layer's modules do with every token of a text, of a model that has modules |
//! | `POST /v1/adapters`, `DELETE /v1/adapters/{name}` | adapters that come and go, where that is allowed |
//! | `POST /tokenize`, `POST /detokenize` | what the model reads |
//! | `GET /health` | 200 when ready, 503 while loading or draining |
//! | `GET /metrics` | counts and times, for Prometheus |
//! | `GET /openapi.json` | all of this for programs |
//! | `GET /` | the chat page |
//!
//! Every field OpenAI defines is in one table ([`fields`]): supported, accepted because it cannot change an
//! answer, or refused by name. Nothing is ignored in silence. Every error, also one of HTTP itself, has the
//! body `{"error": {"message", "type", "param", "code"}}`.
//!
//! What this crate is not: it neither batches nor samples (`synapse-engine`), and it reads no model folder.

mod adapters;
mod auth;
mod body;
mod calls;
mod chat;
mod completions;
mod embeddings;
mod error;
pub mod fields;
mod generation;
mod identity;
mod messages;
mod metrics;
mod models;
mod module_trace;
mod openapi;
mod origin;
mod page;
mod params;
mod patience;
mod prepare;
mod prompts;
mod router;
mod routing_trace;
mod sampling;
mod serve;
mod sse;
mod state;
mod swarm;
mod synthesis;
mod tokenize;
mod tools;

pub use adapters::AdapterRoot;
pub use auth::ApiKeys;
pub use error::ServerError;
pub use router::router;
pub use serve::serve;
pub use state::{SamplingDefaults, ServerOptions, ServerState};
pub use swarm::{Several, Swarm, SwarmLabel};
