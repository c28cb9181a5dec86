//! Serves a [`synapse_engine::Engine`] over HTTP in OpenAI's wire format, with a chat page at `/`.
//!
//! | route | what |
//! |---|---|
//! | `POST /v1/chat/completions` | a conversation, streamed token by token or whole |
//! | `POST /v1/completions` | raw text, streamed or whole |
//! | `POST /v1/embeddings` | texts as vectors of length 1 |
//! | `GET /v1/models`, `GET /v1/models/{id}` | the base model, its adapters and the swarm |
//! | `POST /v1/models/trace` | how each layer routes every token of a text, for models with an expert router |
//! | `GET /v1/router/decisions` | the swarm's most recent decisions |
//! | `POST /v1/adapters`, `DELETE /v1/adapters/{name}` | loads and removes adapters, if the server allows it |
//! | `POST /tokenize`, `POST /detokenize` | the tokens of a text, the text of tokens |
//! | `GET /health` | 200 when ready, 503 while loading or draining |
//! | `GET /metrics` | counters and histograms for Prometheus |
//! | `GET /openapi.json` | the interface as an OpenAPI document |
//! | `GET /` | the chat page |
//!
//! `GET` and `POST /v1/routing/trace` are the deprecated paths of the decisions and of the trace.
//!
//! Every field that OpenAI defines is in one table ([`fields`]): supported, accepted because it cannot change an answer, or
//! refused by name. Nothing is silently ignored. Every error, including HTTP's own, has the body
//! `{"error": {"message", "type", "param", "code"}}`.
//!
//! What this crate is not: it neither batches nor samples (`synapse-engine`), and it reads no model folder.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use synapse_engine::Engine;
//! use synapse_server::{ServerOptions, ServerState, serve};
//!
//! // `Engine::start` makes an engine from a model and its tokenizer.
//! async fn run(engine: Engine) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut options = ServerOptions::new("my-model");
//!     options.max_choices = 4;
//!     let state = ServerState::new(options, Arc::new(engine))?;
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:6900").await?;
//!     serve(state, listener, std::future::pending()).await?;
//!     Ok(())
//! }
//! ```
//!
//! [`router`] gives the routes alone, for a server or test of your own. The modules follow a request: `routes` and its
//! middleware (`auth`, `cors`, `read_timeout`, `metrics`), a handler (`chat`, `completions`, ...) that reads `body` and
//! `params`, then `encoding`, `reservation` and `generation`, and the response in `sse` or `wire`. `router` routes
//! conversations to adapters, `aggregation` lets several adapters answer together.

mod adapter_root;
mod adapters;
mod aggregation;
mod answer;
mod api_keys;
mod auth;
mod body;
mod calls;
mod chat;
mod completions;
mod content_encoding;
mod cors;
mod drain;
mod echo;
mod embeddings;
mod encoding;
mod error;
pub mod fields;
mod generation;
mod identity;
mod messages;
mod metrics;
mod models;
mod module_trace;
mod openapi;
mod options;
mod page;
mod params;
mod prompts;
mod read_timeout;
mod reservation;
mod router;
mod routes;
mod sampling;
mod serve;
mod sse;
mod state;
mod target;
mod tokenize;
mod tools;
mod wire;

pub use adapter_root::AdapterRoot;
pub use api_keys::ApiKeys;
pub use error::ServerError;
pub use options::{SamplingDefaults, ServerOptions};
pub use router::{MultiDomain, Swarm, SwarmLabel};
pub use routes::router;
pub use serve::serve;
pub use state::ServerState;
