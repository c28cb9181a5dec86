//! Words that mean the same in a recipe as written and in its plan: the enumerations, and the
//! lists of names that other rooms own but a recipe may mention.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Suites an `evaluate:` section or a gate may name.
pub const SUITES: [&str; 13] = [
    "held-out-loss",
    "exact-match",
    "gsm8k",
    "code-tests",
    "expression",
    "routing",
    "choices",
    "humaneval",
    "mbpp",
    "mmlu",
    "arc",
    "hellaswag",
    "custom",
];

/// Suites whose questions are a dataset of the hub: its name there, and whether a recipe may name a file instead.
pub const BENCHMARKS: [(&str, &str); 6] = [
    ("gsm8k", "openai/gsm8k"),
    ("humaneval", "openai/openai_humaneval"),
    ("mbpp", "google-research-datasets/mbpp"),
    ("mmlu", "cais/mmlu"),
    ("arc", "allenai/ai2_arc"),
    ("hellaswag", "Rowan/hellaswag"),
];

/// Suites whose questions are always a file of one's own.
pub const OWN_SUITES: [&str; 2] = ["choices", "custom"];

/// Suites that can answer a task several times.
pub const SAMPLED_SUITES: [&str; 3] = ["code-tests", "humaneval", "mbpp"];

/// Labels of a coordinator that says nothing else.
pub const ROUTER_LABELS: [&str; 5] = ["math", "code", "general", "several", "none"];

/// The linear modules of a decoder layer, sorted: what `targets: all-linear` stands for.
pub const LINEAR_MODULES: [&str; 7] = [
    "down_proj",
    "gate_proj",
    "k_proj",
    "o_proj",
    "q_proj",
    "up_proj",
    "v_proj",
];

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

impl Stage {
    /// Every stage in the order they can run.
    pub const ALL: [Self; 7] = [
        Self::Fetch,
        Self::Prepare,
        Self::Train,
        Self::Evaluate,
        Self::Merge,
        Self::Gate,
        Self::Export,
    ];

    /// The identifier used in YAML and on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Prepare => "prepare",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Merge => "merge",
            Self::Gate => "gate",
            Self::Export => "export",
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.id())
    }
}

impl std::str::FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|stage| stage.id() == text).ok_or_else(|| {
            format!(
                "unknown stage `{text}`; stages are {}",
                Self::ALL.map(Self::id).join(", ")
            )
        })
    }
}

/// Shape of the learning rate after warmup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Half a cosine down to zero.
    #[default]
    Cosine,
    /// A straight line down to zero.
    Linear,
    /// The peak, all the way.
    Constant,
}

/// Whether a benchmark's questions go through the chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prompting {
    /// Through the template, as training and serving do.
    #[default]
    Chat,
    /// As plain text that a base model continues.
    Raw,
}

/// Which tokens carry loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LossOn {
    /// Assistant answers and their end-of-turn tokens.
    #[default]
    Assistant,
    /// Every token.
    All,
}

/// What happens to a document longer than `max_seq_len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlong {
    /// It is left out, and counted.
    #[default]
    Drop,
    /// Its end is cut off, and counted.
    Truncate,
    /// It becomes several documents; meant for plain text.
    Split,
}

/// Whether layers are computed again in the backward pass: `true`, `false` or `auto` in a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recompute {
    /// Where keeping their activations would not fit into memory.
    #[default]
    Auto,
    /// `true`
    Always,
    /// `false`
    Never,
}

impl Serialize for Recompute {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Always => serializer.serialize_bool(true),
            Self::Never => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for Recompute {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl serde::de::Visitor<'_> for Word {
            type Value = Recompute;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("true, false or auto")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Recompute, E> {
                Ok(if value { Recompute::Always } else { Recompute::Never })
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Recompute, E> {
                if value == "auto" {
                    Ok(Recompute::Auto)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(value), &self))
                }
            }
        }
        deserializer.deserialize_any(Word)
    }
}

impl JsonSchema for Recompute {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Recompute".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Whether layers are computed again in the backward pass; auto: where keeping their activations would not fit into memory.",
            "enum": [true, false, "auto"],
        })
    }
}

/// Precision of activations and matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32-bit floats.
    F32,
    /// bfloat16 inputs, f32 sums.
    #[default]
    Bf16,
}

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

/// Shape of a dataset's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `instruction`, `input` (may be empty), `output`.
    Alpaca,
    /// `question`, `answer`.
    QuestionAnswer,
    /// `conversations: [{from, value, weight}]`.
    Sharegpt,
    /// `messages: [{role, content}]`.
    Messages,
    /// `text`: plain documents for continued pre-training.
    Text,
    /// `prompt`, `completion`.
    PromptCompletion,
}

impl Format {
    /// The word used in YAML.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Alpaca => "alpaca",
            Self::QuestionAnswer => "question-answer",
            Self::Sharegpt => "sharegpt",
            Self::Messages => "messages",
            Self::Text => "text",
            Self::PromptCompletion => "prompt-completion",
        }
    }

    /// Names of its fields, which are also the columns unless a `map:` says otherwise.
    #[must_use]
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Alpaca => &["instruction", "input", "output", "system"],
            Self::QuestionAnswer => &["question", "answer", "system"],
            Self::Sharegpt => &["conversations", "system"],
            Self::Messages => &["messages"],
            Self::Text => &["text"],
            Self::PromptCompletion => &["prompt", "completion", "system"],
        }
    }
}

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

impl MergeMethod {
    /// The word used in YAML and on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Ties => "ties",
            Self::Linear => "linear",
            Self::TaskArithmetic => "task_arithmetic",
            Self::DareLinear => "dare_linear",
            Self::DareTies => "dare_ties",
            Self::Breadcrumbs => "breadcrumbs",
            Self::BreadcrumbsTies => "breadcrumbs_ties",
            Self::Della => "della",
            Self::DellaLinear => "della_linear",
            Self::MultiSlerp => "multislerp",
            Self::Karcher => "karcher",
            Self::ModelStock => "model_stock",
            Self::Sce => "sce",
        }
    }
}

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

impl SignVote {
    /// The word used in YAML and on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Frequency => "frequency",
            Self::Total => "total",
        }
    }
}

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

impl ExportDtype {
    /// The word used in YAML and on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }
}

/// Quantization of a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GgufType {
    /// 32-bit floats.
    F32,
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

impl GgufType {
    /// The word used in YAML and on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }
}
