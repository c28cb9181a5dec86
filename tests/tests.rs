//! Integration tests: one binary, so that it links once. Every test drives the real programs in a fresh folder and
//! looks at exit code, stdout, stderr and files. No network, no weights but what the tests train themselves.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

/// Crate edges against the table in crates/README.md.
mod architecture;
/// Twenty wrong requests: one clear message each, nothing half-written.
mod bad_requests;
/// `completions`: shell completion scripts.
mod completions;
/// What a run costs, measured and forecast.
mod costs;
/// A recipe's data before any training: fetched, reported, shown.
mod data;
/// `run --device`: the candle backend against the CPU kernels, and unavailable devices.
mod devices;
/// `eval`, `compare` and `report`: benchmarks in the hub's layout, interrupted and resumed.
mod evaluation;
/// Every family of attention through the whole pipeline at tiny size.
mod families;
/// The Makefile's targets find the programs wherever cargo puts them.
mod makefile;
/// `synapse-merge`: methods, adapters, mergekit files, deltas, interrupted merges.
mod merge;
/// The Synapse architecture: trained, traced, served, specialized, merged.
mod modules;
/// kill -9 and an interrupted run end as if nothing had happened.
mod resume;
/// The quickstart's coordinator on everyday requests.
mod routing;
/// `search`: points in memory against published merges, a journal continued, wrong requests.
mod search;
/// `serve` over a real port: plain, streamed, refused.
mod serving;
/// A temporary root with the programs at hand.
mod support;
/// Chat templates with variables: training and serving agree.
mod thoughts;
/// What the user asked to see, word for word, on a tiny base and an offline cache.
mod words;
