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

mod combine;
mod companions;
mod delta;
mod error;
mod inputs;
mod merge;
mod merge_file;
mod mergekit;
mod reader;
#[cfg(test)]
mod reference;
mod report;
mod request;
mod select;
mod tensor;
mod trim;

pub use error::{MergeError, Result};
pub use merge::{MergeProgress, merge};
pub use merge_file::{FILE as MERGE_FILE, FileInput, MergeFile, SynapseBlock};
pub use report::{EnergyLost, InputReport, MergeReport, REPORT_FILE, TensorReport, Totals, Voters};
pub use request::{
    AdapterInput, DEFAULT_SHARD_BYTES, Input, MergeRequest, Method, ModelInput, Sign, ZeroSign, parse_dtype,
};
pub use trim::Trim;
