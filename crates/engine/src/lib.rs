//! Serves one language model to many requests at once: continuous batching, sampling, structured output, embeddings.
//!
//! [`Engine`] owns a thread that runs the model step by step. Prompts that are still being read and sequences that are
//! decoding share each forward pass; requests join when they arrive and leave when they end. The result of a request
//! does not depend on what else is in the batch: prompts are cut at fixed positions, and each request samples from its
//! own seeded stream. Adapters can be loaded and removed while requests run.
//!
//! | to | use |
//! |---|---|
//! | start a model | [`Engine::start`] with [`EngineOptions`] |
//! | stream a completion | [`Engine::submit`] with a [`Request`]; [`EventReceiver`] yields an [`Event`] per [`Token`] |
//! | wait for a whole [`Completion`] | [`EventReceiver::blocking_collect`], or [`Engine::generate`] for a batch |
//! | choose how to sample | [`SamplingOptions`] |
//! | hold a completion to a JSON Schema | [`Engine::compile`] a [`Grammar`], set [`Request::constraint`] |
//! | embed texts, score continuations | [`Engine::embed`], [`Engine::score`] |
//! | change adapters while it runs | [`Engine::with_adapter_source`], [`Engine::load_adapter`] |
//! | refuse work before doing it | [`Engine::admit`], [`Engine::validate`] |
//! | collect metrics | [`Engine::observe`] with an [`EngineObserver`], [`Engine::load`] |
//!
//! Any [`synapse_nn::CausalLm`] can be served. What this crate is not: it knows no wire format (`synapse-server`) and no
//! numerics (`synapse-nn`).
//!
//! A generation, which is also `examples/generate.rs`:
//!
//! ```
#![doc = include_str!("../examples/generate.rs")]
//! ```
//!
//! The modules follow a request: `engine/submit` admits and validates it, `queue` carries it to the `scheduler`, which
//! runs it as a `sequence` for its `task`: a `generation` (`sampler`, `distribution`, `constraint` over `schema`, `text`,
//! `prompt_logprobs`), an `embedding` or `scoring`.

mod adapter_registry;
mod adapters;
mod admission;
mod completion;
mod constraint;
mod distribution;
mod embedding;
mod engine;
mod error;
mod generation;
mod observer;
mod options;
mod prefix;
mod prompt_logprobs;
mod queue;
mod request;
mod sampler;
mod scheduler;
mod schema;
mod scoring;
mod sequence;
mod task;
mod text;
mod usage;

pub use adapters::{AdapterInfo, AdapterSource, LoadAdapter};
pub use admission::Permit;
pub use completion::{Completion, EventReceiver};
pub use constraint::{Constraint, Grammar, StructuralTag};
pub use embedding::EmbeddingReceiver;
pub use engine::Engine;
pub use error::{EngineError, Result};
pub use observer::{EngineLoad, EngineObserver, StepStats};
pub use options::{EngineOptions, MAX_TOP_LOGPROBS, SamplingOptions};
pub use request::{Event, Finish, FinishReason, Request, Token, TokenLogprob};
pub use scoring::ScoreReceiver;
pub use usage::{Timings, Usage};
