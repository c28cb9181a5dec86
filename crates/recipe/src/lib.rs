//! Recipes and pipelines: the YAML a user writes, checked as a whole, and the plans stages read.
//!
//! This room is vocabulary: it reads files and says what they mean. It fetches, trains and merges
//! nothing.
//!
//! A file becomes a tree that remembers positions (`yaml`), takes the command line's overrides
//! (`overrides`), is checked against the generated JSON Schema (`check`), read into the types it
//! is written in (`written`), and resolved into a plan (`resolve`). Each step adds its problems to
//! the same list, so a bad file is mended in one go.
//!
//! ```no_run
//! match synapse_recipe::load("recipes/math.yaml".as_ref(), &["train.epochs=1".to_owned()]) {
//!     Ok(document) => assert_eq!(document.name(), "math"),
//!     Err(diagnostics) => eprintln!("{diagnostics}"),
//! }
//! ```

mod check;
mod diagnostics;
mod document;
mod enums;
mod load;
mod overrides;
mod paths;
mod plan;
mod raw;
mod registry;
mod resolve;
mod schema;
mod size;
mod suggest;
mod yaml;

pub use diagnostics::{Diagnostics, Problem};
pub use enums::{
    ComputeDtype, ExportDtype, Format, GateAction, GgufType, LINEAR_MODULES, LossOn, MergeMethod, Overlong, Prompting,
    Recompute, Scheduler, SignVote, Stage, SuiteId,
};
pub use load::{check, load};
pub use plan::{
    Base, DataPlan, Document, EvaluatePlan, ExportPlan, GatePlan, LimitsPlan, Location, LoraPlan, MergePlan, Method,
    PipelinePlan, Portion, Quantization, RequestsPlan, RouterPlan, Samples, SourcePlan, SpecialistPlan, TrainPlan,
};
pub use registry::{BenchmarkEntry, Registry, RegistryEntry, RegistryFiles};
pub use schema::schema;
