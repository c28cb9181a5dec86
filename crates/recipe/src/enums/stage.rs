//! The stages of a run, by name. What each does is the pipeline crate's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step of a run. The pipeline crate knows what each does; this is only its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Base and datasets are on disk and verified.
    Fetch,
    /// Rows are normalized, masked and packed.
    Prepare,
    /// The adapter or model is trained.
    Train,
    /// Suites are run.
    Evaluate,
    /// Adapters become one model.
    Merge,
    /// The merge is compared with the base.
    Gate,
    /// The published folder is written.
    Export,
}

words!(Stage, "stage" {
    Fetch = "fetch",
    Prepare = "prepare",
    Train = "train",
    Evaluate = "evaluate",
    Merge = "merge",
    Gate = "gate",
    Export = "export",
});
