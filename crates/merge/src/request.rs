//! What to merge and how: the resolved request, in which nothing is left open.
//!
//! Recipes, command lines and mergekit files all end here; the maths and the streaming know nothing of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use synapse_checkpoint::DType;

use crate::Trim;

/// Default size of an output shard: 5 GB, as the Hub's tools count it.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

/// A way of making one model out of several. δᵢ is an input's change to the base, wᵢ its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Σ wᵢθᵢ / Σ wᵢ: the weighted mean of the models.
    Linear,
    /// θ + λ·Σ wᵢδᵢ.
    TaskArithmetic,
    /// Trim each δᵢ to its largest entries, elect a sign per entry, take the weighted mean of those that agree
    /// (Yadav et al. 2023, arXiv 2306.01708).
    Ties,
}

impl Method {
    /// Whether the combined change is divided by the sum of weights unless the request says otherwise.
    pub fn normalizes(self) -> bool {
        !matches!(self, Self::TaskArithmetic)
    }
}

/// How TIES elects the sign of an entry from d = wᵢ·(trimmed δᵢ).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sign {
    /// Each non-zero d has one vote, whatever its size.
    #[default]
    Frequency,
    /// The sign of Σ d (the paper, mergekit and PEFT).
    Total,
}

/// What a drawn vote (as many plus as minus, or a sum of zero) does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroSign {
    /// Nothing is merged at that entry.
    #[default]
    Drop,
    /// The positive side wins (mergekit).
    Positive,
}

macro_rules! words {
    ($name:ty, $what:literal, { $($word:literal => $value:path),+ $(,)? }) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(match self { $($value => $word),+ })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok($value),)+
                    _ => Err(format!(concat!("unknown ", $what, " `{}` (one of: {})"), word, [$($word),+].join(", "))),
                }
            }
        }
    };
}

words!(Method, "merge method", { "ties" => Method::Ties, "linear" => Method::Linear, "task_arithmetic" => Method::TaskArithmetic });
words!(Sign, "sign election", { "frequency" => Sign::Frequency, "total" => Sign::Total });
words!(ZeroSign, "way to settle a drawn vote", { "drop" => ZeroSign::Drop, "positive" => ZeroSign::Positive });

/// One model to merge: a PEFT adapter folder on the base, or a full checkpoint of the base's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Short name for messages and the report, unique in a request.
    pub name: String,
    /// The local folder.
    pub path: PathBuf,
    /// wᵢ; finite.
    pub weight: f64,
}

/// A PEFT adapter folder with its name and weight.
pub type AdapterInput = Input;
/// A full checkpoint folder with its name and weight.
pub type ModelInput = Input;

/// One merge, resolved. Start from [`MergeRequest::new`] and change what differs.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeRequest {
    /// The method.
    pub method: Method,
    /// TIES: the share of each tensor's smallest entries set to zero.
    pub trim: Trim,
    /// TIES: a trim of its own for an input of that name.
    pub input_trims: BTreeMap<String, Trim>,
    /// TIES: who wins an entry.
    pub sign: Sign,
    /// TIES: what a draw does.
    pub zero_sign: ZeroSign,
    /// Divide the combined change by the weights that went into it.
    pub normalize: bool,
    /// λ, the factor of the combined change; not used by `linear`.
    pub lambda: f64,
    /// The base's folder: the tensors that adapters change, and the source of config and tokenizer.
    pub base: PathBuf,
    /// Adapters on the base; they come before the models wherever order matters.
    pub adapters: Vec<AdapterInput>,
    /// Full checkpoints of the base's shape.
    pub models: Vec<ModelInput>,
    /// The folder to publish.
    pub out: PathBuf,
    /// dtype of every floating-point output tensor; `None` keeps each tensor's own.
    pub dtype: Option<DType>,
    /// Largest size of one output file in bytes; a larger tensor gets a file to itself.
    pub max_shard_bytes: u64,
    /// What merge.yaml calls a folder, where that is not its path: the hub id of a cached model.
    pub aliases: BTreeMap<PathBuf, String>,
    /// sha256 that inputs must have, by folder, when a merge.yaml is run again.
    pub pinned: BTreeMap<PathBuf, String>,
}

impl MergeRequest {
    /// A request with Synapse's defaults and no inputs yet: trim 0.8, majority vote, a draw merges nothing, λ 1.
    pub fn new(method: Method, base: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            method,
            trim: Trim::DEFAULT,
            input_trims: BTreeMap::new(),
            sign: Sign::default(),
            zero_sign: ZeroSign::default(),
            normalize: method.normalizes(),
            lambda: 1.0,
            base: base.into(),
            adapters: Vec::new(),
            models: Vec::new(),
            out: out.into(),
            dtype: None,
            max_shard_bytes: DEFAULT_SHARD_BYTES,
            aliases: BTreeMap::new(),
            pinned: BTreeMap::new(),
        }
    }

    /// All inputs in merging order: adapters, then models.
    pub fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.adapters.iter().chain(&self.models)
    }

    /// The trim of one input.
    pub fn trim_of(&self, input: &str) -> Trim {
        self.input_trims.get(input).copied().unwrap_or(self.trim)
    }

    /// What merge.yaml calls a folder.
    pub(crate) fn called(&self, folder: &Path) -> String {
        let path = || folder.to_string_lossy().into_owned();
        self.aliases.get(folder).cloned().unwrap_or_else(path)
    }

    /// Everything wrong with the request that shows without opening a file.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.inputs().next().is_none() {
            problems.push("nothing to merge: name at least one adapter or model".to_owned());
        }
        let mut names: Vec<&str> = self.inputs().map(|input| input.name.as_str()).collect();
        names.sort_unstable();
        for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
            problems.push(format!(
                "two inputs are called `{}`; name them apart (NAME=FOLDER)",
                pair[0]
            ));
        }
        for input in self.inputs() {
            if !input.weight.is_finite() {
                problems.push(format!(
                    "weight of {} must be a finite number, found {}",
                    input.name, input.weight
                ));
            } else if input.weight < 0.0 && self.normalize && self.method == Method::Ties {
                problems.push(format!(
                    "weight of {} is {}: dividing by the agreeing weights needs them positive; set normalize to false",
                    input.name, input.weight
                ));
            }
        }
        let sum: f64 = self.inputs().map(|input| input.weight).sum();
        if self.normalize && self.method != Method::Ties && sum.abs() < 1e-8 {
            problems.push(format!(
                "the weights sum to {sum}, and {} divides by that sum",
                self.method
            ));
        }
        if !self.lambda.is_finite() {
            problems.push(format!("lambda must be a finite number, found {}", self.lambda));
        } else if self.method == Method::Linear && self.lambda != 1.0 {
            problems.push(format!(
                "lambda is {}, but linear has none; task_arithmetic does",
                self.lambda
            ));
        }
        for name in self.input_trims.keys().filter(|name| !names.contains(&name.as_str())) {
            problems.push(format!("a trim is given for `{name}`, which is no input"));
        }
        if let Some(dtype) = self.dtype.filter(|dtype| !dtype.is_weight()) {
            problems.push(format!("output dtype {dtype} is not one of f32, f16, bf16"));
        }
        if self.max_shard_bytes == 0 {
            problems.push("the shard size must be above zero".to_owned());
        }
        problems
    }
}

/// Reads a dtype by Synapse's or torch's name.
///
/// # Errors
/// Names the known ones.
pub fn parse_dtype(word: &str) -> Result<DType, String> {
    match word {
        "f32" | "float32" => Ok(DType::F32),
        "f16" | "float16" => Ok(DType::F16),
        "bf16" | "bfloat16" => Ok(DType::BF16),
        _ => Err(format!(
            "unknown dtype `{word}` (one of: f32, f16, bf16, float32, float16, bfloat16)"
        )),
    }
}

/// torch's name of an output dtype, as config.json and mergekit write it.
pub(crate) fn torch_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    }
}
