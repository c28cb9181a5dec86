//! Recipes and pipelines as they are written: the types that `resolve` turns into plans.
//!
//! The JSON Schema is generated from these types; its descriptions and ranges are the comments and attributes here.
//! Every field has a default, so that the sections around a mistake can still be checked. The schema's `required` says
//! which keys must be present.

mod pipeline;
mod recipe;
mod train;

pub(crate) use pipeline::{ByteSize, Merge, Pipeline};
pub(crate) use recipe::{Evaluate, Limits, ROUTER_LABELS, RawBase, RawSamples, Recipe, SamplesWord, Source, StageList};
pub(crate) use train::{Lora, QuantizationKind, RawMethod, RawQuantization, Targets, Train};
