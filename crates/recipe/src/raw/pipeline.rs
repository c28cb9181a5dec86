//! A pipeline as it is written: recipes, and what happens to their adapters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::enums::{ExportDtype, GateAction, GgufQuantization, MergeMethod, SignVote, SuiteId};
use crate::raw::recipe::Evaluate;

/// A pipeline: recipes, the merge of their adapters, the gate, the export.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "recipes", "output"]))]
pub(crate) struct Pipeline {
    /// Short name; the served model's id.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) name: String,
    /// Recipe files, relative to this file; all on the same base.
    #[schemars(length(min = 1))]
    pub(crate) recipes: Vec<PathBuf>,
    /// How the adapters become one model.
    pub(crate) merge: Merge,
    /// What is measured on base, specialists and merge; the recipes' own suites when absent.
    pub(crate) evaluate: Evaluate,
    /// The condition a merge must meet before it is exported.
    pub(crate) gate: Gate,
    /// Files of the published model.
    pub(crate) export: Export,
    /// Folder of the published model, relative to the working directory.
    #[schemars(length(min = 1))]
    pub(crate) output: PathBuf,
}

/// How adapters are merged.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Merge {
    /// `ties`, `linear`, `task_arithmetic`, `dare_ties` …
    pub(crate) method: MergeMethod,
    /// Share of each delta's entries set to zero, smallest first: 0.8 keeps the largest 20 %.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1))]
    pub(crate) trim: f64,
    /// Sign of each merged entry: `frequency` counts signs, `total` takes the sign of the sum.
    pub(crate) sign: SignVote,
    /// Factor on the merged delta.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub(crate) lambda: f64,
    /// Weight of each recipe by name; 1 where absent.
    pub(crate) weights: BTreeMap<String, f64>,
    /// The method's own parameters by mergekit's names, such as `gamma`, `epsilon` or `select_topk`.
    pub(crate) parameters: BTreeMap<String, f64>,
    /// Seed of what a method draws.
    pub(crate) seed: u64,
}

impl Default for Merge {
    fn default() -> Self {
        Self {
            method: MergeMethod::default(),
            trim: 0.8,
            sign: SignVote::default(),
            lambda: 1.0,
            weights: BTreeMap::new(),
            parameters: BTreeMap::new(),
            seed: 0,
        }
    }
}

/// The condition a merge must meet before it is exported.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gate {
    /// How much worse than the base the merge may be in any domain, as a share of the base's value: 0.02 allows 2 %.
    #[schemars(range(min = 0.0))]
    pub(crate) max_regress: f64,
    /// The suite that decides.
    pub(crate) on: SuiteId,
    /// `refuse` exports nothing, `stamp` exports and says so on the model card.
    pub(crate) action: GateAction,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            max_regress: 0.02,
            on: SuiteId::HeldOutLoss,
            action: GateAction::default(),
        }
    }
}

/// Files of the published model.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Export {
    /// Type of the published weights.
    pub(crate) dtype: ExportDtype,
    /// Size of one safetensors file, at most, such as 5GB.
    pub(crate) shard_size: ByteSize,
    /// GGUF files to write beside it.
    pub(crate) gguf: Vec<GgufQuantization>,
}

/// A number of bytes, or a text such as 5GB or 512MiB.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum ByteSize {
    /// Bytes.
    Bytes(#[schemars(range(min = 1))] u64),
    /// A number and a unit.
    Text(String),
}

impl Default for ByteSize {
    fn default() -> Self {
        Self::Text("5GB".to_owned())
    }
}
