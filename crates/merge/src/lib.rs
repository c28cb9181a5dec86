//! Merges LoRA adapters and full checkpoints into one Hugging Face model folder.
//!
//! One idea carries every method here: an input is a change to the base, δᵢ, and a merge is *sparsify → elect →
//! combine* over the δᵢ of one tensor ([`Method`] says which steps each method takes). δ of an adapter is the exact
//! product `B·A·scale` in f32, whatever its rank; δ of a checkpoint is θᵢ − θ in f32. The result is rounded once, to
//! the output's dtype. Tensors pass one at a time, and what nobody touches is copied.
//!
//! The same request gives the same bytes on any number of threads and any instruction set: sums run in a fixed order
//! with fused multiply-adds, ties at the trim threshold go to the lowest index, and nothing is drawn at random.
//!
//! The library knows requests and folders; the binary `synapse-merge` adds the command line, recipes and the Hub.
//! Not in here: training, evaluation, GGUF output.

mod choices;
mod combine;
mod companions;
mod delta;
mod engine;
mod error;
mod factors;
mod fusion;
mod geometry;
mod global;
mod inputs;
mod journal;
mod merge;
mod merge_file;
mod mergekit;
mod method;
mod nf4;
mod peft;
mod plan;
mod problems;
mod random;
mod reader;
#[cfg(test)]
mod reference;
mod report;
mod request;
mod rules;
mod select;
mod settings;
mod sink;
mod sparsify;
mod tiles;
mod trim;

pub use choices::{BaseView, Compat, Counting, DivideBy, Election, Rounding, Scope, Selection, Sign, ZeroSign};
pub use error::{MergeError, Result};
pub use merge::{MergeProgress, merge, verify};
pub use merge_file::{FILE as MERGE_FILE, FileInput, FileSlice, MergeFile, SynapseBlock};
pub use method::Method;
pub use peft::PeftAdapter;
pub use report::{EnergyLost, InputReport, MergeReport, REPORT_FILE, TensorReport, Totals, Voters};
pub use request::{
    AdapterInput, DEFAULT_SHARD_BYTES, Input, MergeRequest, ModelInput, Slice, SliceSource, parse_dtype,
};
pub use settings::{Setting, Settings};
pub use sparsify::Rescale;
pub use trim::Trim;
