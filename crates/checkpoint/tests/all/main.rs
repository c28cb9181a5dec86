//! Tests of the crate through its public interface, one module a subject.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adapter;
mod config;
mod folder;
mod gguf;
mod publish;
mod safetensors;
mod support;
