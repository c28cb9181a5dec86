//! Reads the YAML of recipes and pipelines, checks all of it, and resolves it into typed plans.
//!
//! What this is not: it does not fetch, train, evaluate or merge. The other crates read the plans and do that.
//!
//! # From file to plan
//! | Step | Module |
//! |---|---|
//! | YAML into a tree that remembers lines and columns | `yaml` |
//! | `--set KEY=VALUE` from the command line | `overrides` |
//! | the tree against the JSON Schema | `check`, `schema` |
//! | the tree as the types in which files are written | `raw`, `enums` |
//! | defaults, paths, conditions between keys | `resolve` |
//! | the result: [`Plan`] | `plan` |
//!
//! Every step adds its problems to one list, [`Diagnostics`], so that a file can be corrected in one go.
//!
//! # Example
//! ```
//! use synapse_recipe::{Plan, TrainingMethod, load};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! std::fs::write(folder.path().join("rows.jsonl"), "{\"question\": \"2 + 2?\", \"answer\": \"4\"}\n")?;
//! let file = folder.path().join("math.yaml");
//! let recipe = "
//! name: math
//! base: HuggingFaceTB/SmolLM2-135M-Instruct
//! data:
//!   - { dataset: rows.jsonl, format: question-answer, samples: all }
//! lora: { rank: 8 }
//! output: outputs/math
//! ";
//! std::fs::write(&file, recipe)?;
//!
//! let overrides = ["train.epochs=2".to_owned()];
//! let Plan::Specialist(plan) = load(&file, &overrides)? else { unreachable!("a recipe trains one specialist") };
//! assert_eq!(plan.train.epochs, 2.0); // from the override
//! assert_eq!(plan.train.max_seq_len, 2048); // the default
//! let TrainingMethod::Lora(lora) = &plan.method else { unreachable!("adapters are the default") };
//! assert_eq!((lora.rank, lora.scale()), (8, 2.0));
//!
//! // A file with mistakes: every one is reported, with its line and a hint.
//! std::fs::write(&file, recipe.replace("rank: 8", "rank: 0").replace("samples: all", "sampels: all"))?;
//! let problems = load(&file, &[]).unwrap_err().problems;
//! assert_eq!(problems.len(), 2);
//! assert_eq!((problems[0].line, problems[0].message.as_str()), (5, "unknown key `sampels` in data[0]"));
//! assert_eq!(problems[0].hint.as_deref(), Some("did you mean `samples`?"));
//! assert_eq!(problems[1].message, "`lora.rank` must be at least 1, found 0");
//! # Ok(())
//! # }
//! ```

mod check;
mod diagnostics;
mod enums;
mod kind;
mod load;
mod overrides;
mod parsed_file;
mod paths;
mod plan;
mod raw;
mod registry;
mod registry_file;
mod resolve;
mod row_files;
mod schema;
mod size;
mod suggest;
mod yaml;

pub use diagnostics::{Diagnostics, Problem};
pub use enums::{
    ComputeDtype, ExportDtype, Format, GateAction, GgufQuantization, LINEAR_MODULES, LossOn, MergeMethod, Overlong,
    Prompting, Recompute, Scheduler, SignVote, Stage, SuiteId,
};
pub use load::{check, load};
pub use plan::{
    Base, DataPlan, EvaluatePlan, ExportPlan, GatePlan, LimitsPlan, Location, LoraPlan, MergePlan, PipelinePlan, Plan,
    Portion, QuantizationPlan, RequestsPlan, RouterPlan, Samples, SourcePlan, SpecialistPlan, TrainPlan,
    TrainingMethod,
};
pub use registry::{BenchmarkEntry, Registry, RegistryEntry, RegistryFiles};
pub use registry_file::{find_registry, read_registry};
pub use row_files::{ROW_FILE_ENDINGS, row_file_ending, without_compression};
pub use schema::schema;
