//! A recipe as it is written: its model, its data, its evaluation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::enums::{Format, Prompting, Stage, SuiteId};
use crate::raw::train::{Lora, RawQuantization, Train};

/// Labels of a coordinator whose recipe names none.
pub(crate) const ROUTER_LABELS: [&str; 5] = ["math", "code", "general", "several", "none"];

/// A recipe: one base model, one mixture of data, one trained artifact.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "base", "data", "output"]))]
pub(crate) struct Recipe {
    /// Short name in lower case, used for tables, adapters and merge weights.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) name: String,
    /// A file that lists the stages; fetch, prepare, train, evaluate when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline: Option<PathBuf>,
    /// The model that is trained: a hub id (organization/name, optionally @revision), a model folder, a .gguf file, or `{ from_scratch: FOLDER }`.
    pub(crate) base: RawBase,
    /// System turn put in front of every chat row that brings none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_prompt: Option<String>,
    /// Arguments of the model's chat template, such as `{ enable_thinking: false }`; for every prompt of training and evaluation.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) chat: Map<String, Value>,
    /// Sources of rows, mixed and shuffled together.
    #[schemars(length(min = 1))]
    pub(crate) data: Vec<Source>,
    /// Training rows over all sources; a source with `samples: rest` fills up to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) total: Option<u64>,
    /// A source that holds fewer rows than asked for is an error instead of a warning.
    pub(crate) strict: bool,
    /// Seed of sampling, shuffling and the held-out split; `train.seed` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// Rows set aside for evaluation, never trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_out: Option<u64>,
    /// Rows that are left out.
    pub(crate) filters: Filters,
    /// What the data's report must show before training begins; nothing is checked when absent.
    pub(crate) limits: Limits,
    /// Storage of the frozen base weights; full precision when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quantization: Option<RawQuantization>,
    /// Shape of the adapters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lora: Option<Lora>,
    /// The training loop.
    pub(crate) train: Train,
    /// What is measured, during training and after it.
    pub(crate) evaluate: Evaluate,
    /// Answers of a coordinator; only for recipes that train one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) router: Option<Router>,
    /// Folder of the published artifact, relative to the working directory.
    #[schemars(length(min = 1))]
    pub(crate) output: PathBuf,
}

/// The model a recipe starts from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawBase {
    /// A hub id, a model folder or a .gguf file.
    Named(String),
    /// A model folder without weights.
    FromScratch(FromScratch),
}

impl Default for RawBase {
    fn default() -> Self {
        Self::Named(String::new())
    }
}

/// A model whose weights are initialized instead of read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FromScratch {
    /// Folder with config.json and tokenizer files; weights are initialized from `train.seed`.
    #[serde(alias = "fresh")]
    pub(crate) from_scratch: PathBuf,
}

/// One source of rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["dataset"]))]
pub(crate) struct Source {
    /// A name of data/registry.yaml, a hub id (organization/name), a local file, or `routing` for generated routing rows.
    pub(crate) dataset: String,
    /// Training rows to take: a number, `all`, or `rest` to fill up to `total`.
    pub(crate) samples: RawSamples,
    /// Split of the dataset; benchmarks' test splits are refused.
    pub(crate) split: Split,
    /// Files of the repository as globs, when the dataset is a hub id that the registry does not describe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<String>,
    /// Configuration of the repository's card, where it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    /// Fetch only this many of the repository's files, drawn by the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) shards: Option<u64>,
    /// Fetch only this many rows from the beginning: lines are streamed, of parquet only the row groups and columns that are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) first_rows: Option<u64>,
    /// Branch, tag or commit of the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
    /// Shape of a row; detected from its columns when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) format: Option<Format>,
    /// Field of the format to column of the file, where they differ.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) map: BTreeMap<String, String>,
    /// System turn for this source's rows, instead of the recipe's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_prompt: Option<String>,
    /// Held-out rows come from this file instead of from the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held_out_file: Option<PathBuf>,
    /// Generated routing rows only: label to the recipe whose training rows supply real requests for it, beside templates.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) requests: BTreeMap<String, PathBuf>,
    /// License of the rows, shown in the plan and on the model card.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(alias = "licence")]
    pub(crate) license: Option<String>,
}

/// Name of a split.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Split(pub(crate) String);

impl Default for Split {
    fn default() -> Self {
        Self("train".to_owned())
    }
}

/// How many rows of a source are taken.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RawSamples {
    /// A word.
    Word(SamplesWord),
    /// This many rows, or all with a warning when there are fewer.
    Count(#[schemars(range(min = 1))] u64),
}

impl Default for RawSamples {
    fn default() -> Self {
        Self::Word(SamplesWord::All)
    }
}

/// The words `samples` takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SamplesWord {
    /// Every row.
    All,
    /// What is missing to `total`.
    Rest,
}

/// Rows that are left out before sampling.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Filters {
    /// Rows whose text is shorter are dropped.
    pub(crate) min_chars: usize,
    /// Rows whose text is longer are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) max_chars: Option<usize>,
    /// Rows with the same normalized text as an earlier one are dropped.
    pub(crate) dedupe: bool,
    /// Rows at least this similar to an earlier one are dropped (Jaccard similarity of word triples, 0.8 is usual); off when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.3, max = 1.0))]
    pub(crate) near_duplicates: Option<f64>,
    /// Rows that share 13 words in a row with a question of the suites, with `benchmarks`, or with a held-out prompt are dropped.
    pub(crate) decontaminate: bool,
    /// Local files whose texts training must not contain, beside those that the suites ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) benchmarks: Vec<PathBuf>,
}

/// Shares that stop a run before training begins.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Training documents longer than `train.max_seq_len`, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) truncated: Option<f64>,
    /// Tokens not trained on because their document was too long, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) tokens_lost: Option<f64>,
    /// Rows dropped for any reason, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) dropped: Option<f64>,
    /// Exact and near duplicates among the rows, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) duplicates: Option<f64>,
    /// Rows that overlap with a benchmark or a held-out prompt, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) contaminated: Option<f64>,
    /// Tokens that count in the loss, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(crate) trained: Option<f64>,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            min_chars: 1,
            max_chars: None,
            dedupe: true,
            near_duplicates: None,
            decontaminate: false,
            benchmarks: Vec::new(),
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Evaluate {
    /// Suites to run; held-out-loss alone when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) suites: Option<Vec<SuiteId>>,
    /// Optimizer steps between held-out losses while training; 0 measures only at the end.
    pub(crate) every: u64,
    /// Items of each task suite, at most; held-out loss always takes every held-out row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub(crate) limit: Option<u64>,
    /// Tokens of one generated answer, at most; 256 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) max_new_tokens: Option<usize>,
    /// Suite → file with its questions, instead of the hub's dataset; `choices` and `custom` need one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) files: BTreeMap<String, PathBuf>,
    /// Whether benchmarks (gsm8k, humaneval, mbpp, mmlu, arc, hellaswag, choices, custom) are asked through the chat template.
    pub(crate) prompting: Prompting,
    /// Worked examples before each question of gsm8k.
    #[schemars(range(max = 8))]
    pub(crate) shots: usize,
    /// Answers to each programming task; above 1 the score is pass@k.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) samples: Option<usize>,
    /// Temperature of those answers; 0 takes the likeliest token.
    #[schemars(range(min = 0.0, max = 2.0))]
    pub(crate) temperature: f64,
}

/// Answers of a coordinator.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Router {
    /// Labels the coordinator chooses between, each one word.
    #[schemars(length(min = 2))]
    pub(crate) labels: Vec<String>,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            labels: ROUTER_LABELS.map(str::to_owned).to_vec(),
        }
    }
}

/// A list of stages that several recipes share.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["stages"]))]
pub(crate) struct StageList {
    /// Short name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Stages in the order they run.
    #[schemars(length(min = 1))]
    pub(crate) stages: Vec<Stage>,
}
