//! The data half of a plan: sources, how they are mixed and cleaned, and what may not be lost on the way.
//!
//! It only says what is wanted; reading, cleaning and counting are the data crate's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::enums::{Format, SuiteId};

/// Rows and how they are mixed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataPlan {
    /// Sources in the order the recipe lists them.
    pub sources: Vec<SourcePlan>,
    /// Training rows over all sources; `Samples::Rest` fills up to it.
    pub total: Option<u64>,
    /// A source that holds fewer rows than asked for is an error instead of a warning.
    pub strict: bool,
    /// Seeds sampling, shuffling and the held-out split.
    pub seed: u64,
    /// Rows set aside for evaluation, never trained on.
    pub held_out: u64,
    /// Rows whose text is shorter are dropped.
    pub min_chars: usize,
    /// Rows whose text is longer are dropped.
    pub max_chars: Option<usize>,
    /// Rows with the same normalized text as an earlier one are dropped.
    pub dedupe: bool,
    /// Rows whose word triples overlap with an earlier row's by at least this Jaccard similarity are dropped; off when
    /// absent.
    pub near_duplicates: Option<f64>,
    /// Rows that share 13 words in a row with a benchmark, or with a held-out prompt, are dropped.
    pub decontaminate: bool,
    /// Local files with further benchmarks to keep out, beside those that the suites ask.
    pub benchmarks: Vec<PathBuf>,
}

impl Default for DataPlan {
    /// The values of a recipe that only lists its sources: nothing is held out, exact duplicates are dropped.
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            total: None,
            strict: false,
            seed: 42,
            held_out: 0,
            min_chars: 1,
            max_chars: None,
            dedupe: true,
            near_duplicates: None,
            decontaminate: false,
            benchmarks: Vec::new(),
        }
    }
}

/// What may be lost or must be there before training begins; shares lie between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LimitsPlan {
    /// Training documents longer than `max_seq_len`, at most.
    pub truncated: Option<f64>,
    /// Tokens not trained on because their document was too long, at most.
    pub tokens_lost: Option<f64>,
    /// Rows dropped for any reason, at most.
    pub dropped: Option<f64>,
    /// Exact and near duplicates among the rows, at most.
    pub duplicates: Option<f64>,
    /// Rows that overlap with a benchmark or a held-out prompt, at most.
    pub contaminated: Option<f64>,
    /// Tokens that count in the loss, at least.
    pub trained: Option<f64>,
}

/// One source of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourcePlan {
    /// The name the recipe used: a registry name, a hub id or a file.
    pub dataset: String,
    /// Where the rows are.
    pub location: Location,
    /// How many rows are taken.
    pub samples: Samples,
    /// `train`, unless the recipe says otherwise.
    pub split: String,
    /// Shape of a row; detected from its columns when absent.
    pub format: Option<Format>,
    /// The format's field name → the column that holds it.
    pub map: BTreeMap<String, String>,
    /// System turn for this source's rows, before the recipe's own.
    pub system_prompt: Option<String>,
    /// Held-out rows come from this file instead of from the source.
    pub held_out_file: Option<PathBuf>,
    /// License as the registry states it.
    #[serde(rename(serialize = "licence"), alias = "licence")]
    pub license: Option<String>,
    /// Recipes whose requests generated rows are made of, beside templates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestsPlan>,
}

impl SourcePlan {
    /// All training rows of a source, whose format is detected.
    #[must_use]
    pub fn new(dataset: impl Into<String>, location: Location) -> Self {
        Self {
            dataset: dataset.into(),
            location,
            samples: Samples::All,
            split: "train".to_owned(),
            format: None,
            map: BTreeMap::new(),
            system_prompt: None,
            held_out_file: None,
            license: None,
            requests: Vec::new(),
        }
    }

    /// All rows of a local file.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::new(path.display().to_string(), Location::File(path))
    }
}

/// Another recipe's requests, for rows generated with one label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestsPlan {
    /// The label its requests deserve.
    pub label: String,
    /// The recipe's name.
    pub recipe: String,
    /// Its file.
    pub file: PathBuf,
    /// Its rows, without sources of plain text, which ask for nothing.
    pub data: DataPlan,
    /// The suites whose questions its rows are held against, with the file of those that have one of their own.
    pub questions: Vec<(SuiteId, Option<PathBuf>)>,
}

/// Where a source's rows are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Location {
    /// Files of a dataset repository.
    Hub {
        /// `organization/name`.
        id: String,
        /// Branch, tag or commit; the default branch when absent.
        revision: Option<String>,
        /// Globs over the repository's paths; empty when the repository's own card or its files' names must say.
        files: Vec<String>,
        /// Configuration of the repository's card; its default when absent.
        config: Option<String>,
        /// How much of the files is fetched.
        portion: Portion,
    },
    /// A local parquet, Arrow, JSON, JSONL, CSV or text file.
    File(PathBuf),
    /// Generated routing data for the coordinator.
    Routing,
}

/// How much of a dataset's files is fetched; everything when nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Portion {
    /// This many of the files, drawn by the recipe's seed.
    pub shards: Option<u64>,
    /// Only this many rows from the beginning; the bytes after them are never asked for.
    pub first_rows: Option<u64>,
}

/// How many rows of a source are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Samples {
    /// Every row.
    All,
    /// What is missing to `total`.
    Rest,
    /// This many, or all with a warning when there are fewer.
    Count(u64),
}
