//! The Synapse architecture against its reference, against itself, and with LoRA over it.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

mod adapter;
mod model;
mod reference;
