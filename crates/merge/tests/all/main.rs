//! The merge from outside: against float64 results computed elsewhere, and as the command a user runs.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

mod adapters;
mod command;
mod delta;
mod expected;
mod mergekit;
mod methods;
mod models;
mod pipeline;
mod resume;
mod support;
mod variations;
