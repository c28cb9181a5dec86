//! Merges LoRA adapters and full checkpoints into one Hugging Face model folder.
//!
//! [`merge`] carries out a [`MergeRequest`]: a base, adapters or checkpoints with weights, one of 18 methods
//! ([`Method`]), and where the model goes. Two adapters, trimmed to the largest 20 % of their entries and merged by TIES:
//!
//! ```
//! use synapse_merge::{Input, MergeRequest, Method, merge};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let out = folder.path().join("merged");
//! let mut request = MergeRequest::new(Method::Ties, "tests/fixtures/base", &out);
//! request.trim = "0.8".parse()?;
//! request.adapters = vec![
//!     Input::new("math", "tests/fixtures/math"),
//!     Input::new("code", "tests/fixtures/code").with_weight(0.5),
//! ];
//! let report = merge(&request, &|progress| assert!(progress.done <= progress.total))?;
//! assert_eq!(report.inputs.len(), 2);
//! assert!(out.join("model.safetensors").is_file() && out.join("merge.yaml").is_file());
//! # Ok(())
//! # }
//! ```
//!
//! An input is a change to the base, δᵢ (a task vector), or whole weights, θᵢ. A merge is a few sweeps over tiles of
//! them. Most methods are *sparsify → elect → combine* over the δᵢ of one tensor; spherical ones follow from inner
//! products; a few choose entry by entry. The δ of an adapter is the exact product `B·A·scale` in f32, whatever its rank;
//! the δ of a checkpoint is θᵢ − θ in f32. The result is rounded once, to the output's dtype, and written in place.
//!
//! The same request gives the same bytes on any number of threads, any instruction set and any memory budget: sums run
//! in a fixed order, ties at the trim threshold go to the lowest index, and random numbers depend only on a seed, a
//! tensor's name and an index. Re-running an interrupted merge resumes it.
//!
//! Where to find what:
//!
//! | to | use |
//! |---|---|
//! | merge into a model folder, a GGUF file or a delta | [`merge`] |
//! | check a merged folder against its merge.yaml | [`verify`], [`MergeFile`] |
//! | try many trims, λ and weights without writing anything | [`InMemoryMerger`] |
//! | turn a merge into a LoRA adapter | [`extract_lora`] |
//! | put a delta onto its base | [`apply_delta`] |
//! | turn the specialists of a Synapse model into the experts of a larger one | [`upcycle`] |
//! | read what a merge kept and lost | [`MergeReport`] |
//!
//! What this is not: training, evaluation, downloads or a command line. The program `synapse-merge` is in the crate
//! `cli`.

mod aligned;
mod apply;
mod auxiliary_files;
mod card;
mod combine;
mod delta;
mod described;
mod error;
mod extract;
mod factors;
mod fusion;
mod geometry;
mod global;
mod heat_map;
mod in_memory;
mod inputs;
mod journal;
mod low_rank;
mod mask_cache;
mod memory;
mod merge;
mod merge_file;
mod mergekit;
mod method;
mod nf4;
mod options;
mod parallel;
mod parameters;
mod peft;
mod plan;
mod random;
mod reader;
#[cfg(test)]
mod reference;
mod report;
mod request;
mod select;
mod settings;
mod sink;
mod sparsify;
mod tensor_merger;
mod tensor_source;
mod tiles;
mod trim;
mod upcycle;
mod validate;
mod vocabulary;

pub use apply::{ApplyRequest, apply_delta};
pub use delta::{DELTA_FILE, DeltaFile, DeltaTensor};
pub use described::Kept;
pub use error::{MergeError, Result};
pub use extract::{Extraction, extract_lora};
pub use heat_map::HEAT_MAP_FILE;
pub use in_memory::{InMemoryMerger, MergeCandidate};
pub use merge::{MergeProgress, merge, verify};
pub use merge_file::{FILE as MERGE_FILE, FileInput, FileSlice, MergeFile, SynapseBlock};
pub use method::Method;
pub use options::{
    BaseView, Compat, Counting, DivideBy, Rescale, Rounding, Scope, Sign, TieBreak, TiesOptions, TopKSelection,
};
pub use peft::{PeftAdapter, adapter_config};
pub use report::{EnergyLost, InputReport, MergeReport, REPORT_FILE, TensorReport, Totals, Voters};
pub use request::{
    AdapterInput, DEFAULT_SHARD_BYTES, Input, MergeRequest, ModelInput, Slice, SliceSource, parse_dtype,
};
pub use settings::{Setting, Settings};
pub use trim::Trim;
pub use upcycle::{UpcycleRequest, upcycle};
pub use vocabulary::tokenizer_notes;
