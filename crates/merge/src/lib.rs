//! Merges LoRA adapters and full checkpoints into one Hugging Face model folder.
//!
//! An input is a change to the base, δᵢ, or whole weights, θᵢ; a merge is a few sweeps over tiles of them ([`Method`]
//! says which). Most methods are *sparsify → elect → combine* over the δᵢ of one tensor; those on spheres follow from
//! inner products; a few choose entry by entry. δ of an adapter is the exact product `B·A·scale` in f32, whatever its
//! rank; δ of a checkpoint is θᵢ − θ in f32. The result is rounded once, to the output's dtype, and written in place.
//!
//! The same request gives the same bytes on any number of threads, any instruction set and any memory allowance: sums
//! run in a fixed order, ties at the trim threshold go to the lowest index, and what is drawn depends on a seed, a
//! tensor's name and an index alone. A merge that is killed is gone on with by running it again.
//!
//! The library knows requests and folders; the binary `synapse-merge` adds the command line, recipes and the Hub.
//! Not in here: training, evaluation.

mod aligned;
mod apply;
mod auxiliary_files;
mod card;
mod choices;
mod combine;
mod crew;
mod delta;
mod engine;
mod error;
mod extract;
mod factors;
mod fusion;
mod geometry;
mod global;
mod heat_map;
mod inputs;
mod journal;
mod memory;
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
mod sparse;
mod sparsify;
mod tiles;
mod trim;
mod upcycle;
mod variations;
mod vocabulary;

pub use apply::{Application, apply};
pub use choices::{BaseView, Compat, Counting, DivideBy, Election, Rounding, Scope, Selection, Sign, ZeroSign};
pub use error::{MergeError, Result};
pub use extract::{Extraction, extract_lora};
pub use heat_map::HEAT_MAP_FILE;
pub use merge::{MergeProgress, merge, verify};
pub use merge_file::{FILE as MERGE_FILE, FileInput, FileSlice, MergeFile, SynapseBlock};
pub use method::Method;
pub use peft::PeftAdapter;
pub use report::{EnergyLost, InputReport, MergeReport, REPORT_FILE, TensorReport, Totals, Voters};
pub use request::{
    AdapterInput, DEFAULT_SHARD_BYTES, Input, MergeRequest, ModelInput, Slice, SliceSource, parse_dtype,
};
pub use settings::{Setting, Settings};
pub use sparse::{DELTA_FILE, DeltaFile, DeltaTensor};
pub use sparsify::Rescale;
pub use trim::Trim;
pub use upcycle::{Upcycling, base_of, upcycle};
pub use variations::{Variation, Variations};
