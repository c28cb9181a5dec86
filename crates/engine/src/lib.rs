//! The serving engine: many requests, under different adapters, through one model at a time.
//!
//! One thread owns the model and steps a ragged batch: sequences that are still reading their prompt
//! and sequences that are already answering share each forward pass, join when they arrive and leave
//! when they end. What a request gets does not depend on its neighbors: prompts are cut at absolute
//! positions, and each request samples from its own seeded stream.
//!
//! Beside answers it makes embeddings, in the same batch. An answer can be held to a grammar; adapters can be loaded and
//! removed while others answer.
//!
//! What this crate is not: it knows no wire format (`synapse-server`) and no numerics (`synapse-nn`).
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (model, chat): (std::sync::Arc<dyn synapse_nn::CausalLm>, synapse_tokenizer::Chat) = panic!();
//! use synapse_engine::{Engine, EngineOptions, Event, Request, SamplingOptions};
//!
//! let prompt = chat.encode_prompt(&[synapse_tokenizer::Message::new("user", "Hello")])?;
//! let engine = Engine::start(model, chat, Vec::new(), EngineOptions::default());
//! let mut events = engine.submit(Request { prompt, sampling: SamplingOptions::default(), adapter: None, constraint: None })?;
//! while let Some(event) = events.blocking_recv() {
//!     if let Event::Token { text, .. } = event {
//!         // show `text`; dropping `events` instead cancels the request
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod adapters;
mod admission;
mod answer;
mod constraint;
mod distribution;
mod embedding;
mod engine;
mod error;
mod observer;
mod options;
mod prefix;
mod request;
mod sampler;
mod scheduler;
mod scoring;
mod sequence;
mod text;

pub use adapters::{AdapterInfo, AdapterOrder, AdapterSource};
pub use admission::Permits;
pub use constraint::{Constraint, Framed, Grammar};
pub use embedding::EmbeddingReceiver;
pub use engine::Engine;
pub use error::{EngineError, Result};
pub use observer::{Load, Observer, Step};
pub use options::{EngineOptions, SamplingOptions};
pub use request::{Completion, Event, FinishReason, Receiver, Request, Timings, TokenLogprob, Usage};
pub use scoring::ScoreReceiver;
