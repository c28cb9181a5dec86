//! Files as they are written. These types are the source of the JSON Schema, whose descriptions
//! and ranges come from the comments and attributes here; `resolve` turns them into plans.
//!
//! Every field has a default so that the sections around a mistake can still be checked; which
//! keys must be present is said by `required` in the schema.

mod pipeline;
mod recipe;
mod train;

pub(crate) use pipeline::{ByteSize, Merge, Pipeline};
pub(crate) use recipe::{
    BaseWritten, Evaluate, Limits, ROUTER_LABELS, Recipe, SamplesWord, SamplesWritten, Source, StageList,
};
pub(crate) use train::{Lora, MethodWritten, QuantizationKind, QuantizationWritten, Targets, Train};
