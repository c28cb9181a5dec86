//! The words of a pipeline: how adapters are merged, what a failed gate does, what is exported.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How adapters become one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeMethod {
    /// Trim, elect signs, average what agrees.
    #[default]
    Ties,
    /// Weighted mean of the deltas.
    Linear,
    /// Weighted sum of the deltas.
    TaskArithmetic,
    /// Drops entries of each delta at random, scales up what is left, adds.
    DareLinear,
    /// Drops entries of each delta at random, scales up what is left, elects signs.
    DareTies,
    /// Drops the largest and the smallest entries of each delta, adds.
    Breadcrumbs,
    /// Drops the largest and the smallest entries of each delta, elects signs.
    BreadcrumbsTies,
    /// Drops entries at random, the smaller of a row the likelier, elects signs.
    Della,
    /// Drops entries at random, the smaller of a row the likelier, adds.
    DellaLinear,
    /// Weighted mean on the sphere of the models.
    #[serde(rename = "multislerp")]
    MultiSlerp,
    /// Riemannian mean on the sphere of the models.
    Karcher,
    /// Between the base and the models' mean, by the angle between the deltas.
    ModelStock,
    /// Selects entries by variance, weights models by energy, erases by sign.
    Sce,
}

words!(MergeMethod, "merge method" {
    Ties = "ties",
    Linear = "linear",
    TaskArithmetic = "task_arithmetic",
    DareLinear = "dare_linear",
    DareTies = "dare_ties",
    Breadcrumbs = "breadcrumbs",
    BreadcrumbsTies = "breadcrumbs_ties",
    Della = "della",
    DellaLinear = "della_linear",
    MultiSlerp = "multislerp",
    Karcher = "karcher",
    ModelStock = "model_stock",
    Sce = "sce",
});

/// How TIES elects the sign of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SignVote {
    /// The majority of signs; a draw merges nothing.
    #[default]
    Frequency,
    /// The sign of the summed values.
    Total,
}

words!(SignVote, "sign vote" {
    Frequency = "frequency",
    Total = "total",
});

/// Type of published weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportDtype {
    /// bfloat16.
    #[default]
    Bf16,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
}

words!(ExportDtype, "dtype" {
    Bf16 = "bf16",
    F16 = "f16",
    F32 = "f32",
});

/// Quantization of a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GgufQuantization {
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 8 bits in blocks of 32.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 4 bits in blocks of 32.
    #[serde(rename = "q4_0")]
    Q4_0,
}

words!(GgufQuantization, "GGUF type" {
    F16 = "f16",
    Bf16 = "bf16",
    Q8_0 = "q8_0",
    Q4_0 = "q4_0",
});

/// What a failed gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GateAction {
    /// Nothing is exported and the run fails.
    #[default]
    Refuse,
    /// The model is exported and its card says that it failed.
    Stamp,
}
