//! Plans: what a recipe or pipeline means once defaults are filled in and paths are resolved.
//!
//! A plan is what stages read and what `plan.json` holds. It knows nothing of YAML, overrides or
//! where a value came from; [`crate::load`] makes it from a file, once that file is wholly valid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod data;

pub use data::{DataPlan, LimitsPlan, Location, Portion, RequestsPlan, Samples, SourcePlan};

use crate::enums::{
    ComputeDtype, ExportDtype, GateAction, GgufQuantization, LINEAR_MODULES, LossOn, MergeMethod, Overlong, Prompting,
    Recompute, Scheduler, SignVote, Stage, SuiteId,
};

/// What one file describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum Plan {
    /// A recipe: one base, one data mixture, one trained artifact.
    Specialist(SpecialistPlan),
    /// A pipeline: recipes, their merge, the gate and the export.
    Pipeline(PipelinePlan),
}

impl Plan {
    /// The name the file gives itself.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Specialist(plan) => &plan.name,
            Self::Pipeline(plan) => &plan.name,
        }
    }

    /// Where the finished artifact is published.
    #[must_use]
    pub fn output(&self) -> &std::path::Path {
        match self {
            Self::Specialist(plan) => &plan.output,
            Self::Pipeline(plan) => &plan.output,
        }
    }

    /// The folder the run itself lives in.
    #[must_use]
    pub fn run_dir(&self) -> &std::path::Path {
        match self {
            Self::Specialist(plan) => &plan.run_dir,
            Self::Pipeline(plan) => &plan.run_dir,
        }
    }
}

/// One training run: fetch, prepare, train, evaluate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpecialistPlan {
    /// Short name, used in tables, adapter names and merge weights.
    pub name: String,
    /// The recipe file, as it was named on the command line or by a pipeline.
    pub file: PathBuf,
    /// Stages in the order they run.
    pub stages: Vec<Stage>,
    /// The model that is trained.
    pub base: Base,
    /// System turn put in front of every chat row that brings none.
    pub system_prompt: Option<String>,
    /// Arguments of the model's chat template, such as `enable_thinking`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat: Map<String, Value>,
    /// Rows: sources, mixing, filters, held-out split.
    pub data: DataPlan,
    /// What the data's report must show before training begins.
    pub limits: LimitsPlan,
    /// How frozen base weights are stored while training.
    pub quantization: QuantizationPlan,
    /// What is trained: an adapter or every weight.
    pub method: TrainingMethod,
    /// The loop: steps, optimizer, schedule, sequence shape.
    pub train: TrainPlan,
    /// What is measured during and after training.
    pub evaluate: EvaluatePlan,
    /// Published artifact; starts from the working directory unless it is absolute.
    pub output: PathBuf,
    /// `<output's parent>/runs/<output's file name>`: plan, metrics, checkpoints, report.
    pub run_dir: PathBuf,
    /// Present for a coordinator: the labels it answers with.
    pub router: Option<RouterPlan>,
}

/// The model a recipe starts from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// A repository on the hub.
    Hub {
        /// `organization/name`.
        id: String,
        /// Branch, tag or commit; the default branch when absent.
        revision: Option<String>,
    },
    /// A Hugging Face model folder.
    Folder(PathBuf),
    /// A GGUF file, imported to a model folder before training.
    Gguf(PathBuf),
    /// A folder with config.json and tokenizer files but no weights: they are initialized from `train.seed`.
    #[serde(rename = "fresh")]
    FromScratch(PathBuf),
}

impl std::fmt::Display for Base {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hub { id, revision: None } => out.write_str(id),
            Self::Hub {
                id,
                revision: Some(revision),
            } => write!(out, "{id}@{revision}"),
            Self::Folder(path) | Self::Gguf(path) => write!(out, "{}", path.display()),
            Self::FromScratch(path) => write!(out, "{} (from scratch)", path.display()),
        }
    }
}

/// Storage of the frozen base weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum QuantizationPlan {
    /// Kept in the compute dtype.
    None,
    /// 4-bit NormalFloat as bitsandbytes computes it.
    Nf4 {
        /// Elements that share one absmax.
        block_size: usize,
        /// Whether the absmax values are themselves stored in 8 bits.
        double_quant: bool,
    },
}

/// What training changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainingMethod {
    /// Low-rank adapters beside frozen weights.
    Lora(LoraPlan),
    /// Every weight.
    Full,
}

/// Shape of the adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraPlan {
    /// Inner dimension r, at least 1.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Share of the adapter's input that is dropped while training, in [0, 1).
    pub dropout: f32,
    /// Module suffixes such as `q_proj`, sorted, never empty.
    pub targets: Vec<String>,
    /// Scale is alpha/√r instead of alpha/r.
    pub rslora: bool,
}

impl Default for LoraPlan {
    /// Rank 16 on every linear module, alpha twice the rank.
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: LINEAR_MODULES.map(str::to_owned).to_vec(),
            rslora: false,
        }
    }
}

impl LoraPlan {
    /// The factor on B·A: alpha/r, or alpha/√r with rsLoRA.
    #[must_use]
    pub fn scale(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "ranks are far below 2^52")]
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }
}

/// The training loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainPlan {
    /// Passes over the prepared rows; a fraction stops early in the last pass.
    pub epochs: f64,
    /// Stops after this many optimizer steps, and the schedule ends there.
    pub max_steps: Option<u64>,
    /// Rows of one forward pass.
    pub batch_size: usize,
    /// Forward passes of one optimizer step.
    pub gradient_accumulation: usize,
    /// Tokens of one row, at most.
    pub max_seq_len: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Shape of the learning rate after warmup.
    pub scheduler: Scheduler,
    /// Share of the steps spent warming up, in [0, 1).
    pub warmup_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this global L2 norm; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// First moment's decay, in [0, 1).
    pub adam_beta1: f64,
    /// Second moment's decay, in [0, 1).
    pub adam_beta2: f64,
    /// Added to the root of the second moment.
    pub adam_epsilon: f64,
    /// Which tokens carry loss.
    pub loss_on: LossOn,
    /// Several documents share a row; attention stays inside each document.
    pub packing: bool,
    /// What happens to documents longer than `max_seq_len`.
    pub overlong: Overlong,
    /// Layer activations are computed again in the backward pass instead of kept.
    pub recompute: Recompute,
    /// Precision of activations and products; sums are always f32.
    pub compute_dtype: ComputeDtype,
    /// Seeds initialization, dropout and the order of rows.
    pub seed: u64,
    /// Optimizer steps between checkpoints; 0 keeps only the last.
    pub checkpoint_every: u64,
}

impl Default for TrainPlan {
    /// The values of a recipe without a `train:` section.
    fn default() -> Self {
        Self {
            epochs: 1.0,
            max_steps: None,
            batch_size: 2,
            gradient_accumulation: 8,
            max_seq_len: 2048,
            learning_rate: 2e-4,
            scheduler: Scheduler::default(),
            warmup_ratio: 0.03,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            loss_on: LossOn::default(),
            packing: true,
            overlong: Overlong::default(),
            recompute: Recompute::default(),
            compute_dtype: ComputeDtype::default(),
            seed: 42,
            checkpoint_every: 50,
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluatePlan {
    /// Suites in the order their columns appear.
    pub suites: Vec<SuiteId>,
    /// Optimizer steps between held-out losses while training; 0 measures only at the end.
    pub every: u64,
    /// Items of each task suite, at most; held-out loss always takes every held-out row.
    pub limit: Option<u64>,
    /// Tokens of one generated answer, at most.
    pub max_new_tokens: usize,
    /// Suite → file with its questions, where it is not the hub's dataset.
    pub files: BTreeMap<SuiteId, PathBuf>,
    /// Whether benchmarks are asked through the chat template.
    pub prompting: Prompting,
    /// Worked examples before each question of gsm8k.
    pub shots: usize,
    /// Answers to each programming task.
    pub samples: usize,
    /// Temperature of those answers.
    pub temperature: f64,
}

impl Default for EvaluatePlan {
    /// The values of a recipe without an `evaluate:` section, which measures held-out loss.
    fn default() -> Self {
        Self {
            suites: vec![SuiteId::HeldOutLoss],
            every: 0,
            limit: None,
            max_new_tokens: 256,
            files: BTreeMap::new(),
            prompting: Prompting::default(),
            shots: 0,
            samples: 1,
            temperature: 0.0,
        }
    }
}

impl EvaluatePlan {
    /// The suites that read their questions from files, with the file of those that have one of their own.
    pub fn questions(&self) -> impl Iterator<Item = (SuiteId, Option<&Path>)> {
        self.suites.iter().filter_map(|suite| {
            let file = self.files.get(suite).map(PathBuf::as_path);
            (file.is_some() || suite.hub_dataset().is_some()).then_some((*suite, file))
        })
    }
}

/// Labels of a coordinator, in the order its answers are scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterPlan {
    /// At least two, each one word.
    pub labels: Vec<String>,
}

/// Recipes and what becomes of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PipelinePlan {
    /// Short name; the served model's id.
    pub name: String,
    /// The pipeline file, as it was named.
    pub file: PathBuf,
    /// The recipes in the order the file lists them; all on the same base.
    pub specialists: Vec<SpecialistPlan>,
    /// How the adapters become one model.
    pub merge: MergePlan,
    /// What is measured on base, specialists and merge.
    pub evaluate: EvaluatePlan,
    /// What stops or stamps a bad merge.
    pub gate: GatePlan,
    /// Files of the published model.
    pub export: ExportPlan,
    /// Published model folder; starts from the working directory unless it is absolute.
    pub output: PathBuf,
    /// `<output's parent>/runs/<output's file name>`.
    pub run_dir: PathBuf,
}

impl PipelinePlan {
    /// The base every recipe shares, `None` only for a plan without recipes.
    #[must_use]
    pub fn base(&self) -> Option<&Base> {
        self.specialists.first().map(|plan| &plan.base)
    }
}

/// A seed that is the default; plans of before there were seeds stay the same text.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(seed: &u64) -> bool {
    *seed == 0
}

/// How adapters are merged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergePlan {
    /// How the deltas are combined.
    pub method: MergeMethod,
    /// Share of each delta's entries set to zero, smallest first, in [0, 1). Its shortest decimal text has the digits
    /// of the recipe, up to 15 of them; entries are counted by that decimal, not by the binary fraction.
    pub trim: f64,
    /// How the sign of an entry is elected.
    pub sign: SignVote,
    /// Factor on the merged delta.
    pub lambda: f64,
    /// Weight of every recipe by name; all recipes are present.
    pub weights: BTreeMap<String, f64>,
    /// The method's own parameters by mergekit's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, f64>,
    /// Seed of what the method draws.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed: u64,
}

/// The condition a merge must meet before it is exported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatePlan {
    /// How much worse than the base the merge may be in any domain, as a share of the base's value: 0.02 allows 2 %.
    pub max_regress: f64,
    /// The suite that is compared.
    pub on: SuiteId,
    /// What happens when it is worse.
    pub action: GateAction,
}

/// What is written when a model is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportPlan {
    /// Type of the published weights.
    pub dtype: ExportDtype,
    /// Bytes of one safetensors file, at most.
    pub shard_size: u64,
    /// GGUF files to write beside it, by quantization.
    pub gguf: Vec<GgufQuantization>,
}
