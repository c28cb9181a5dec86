//! Arguments of the commands that evaluate and export models.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::TemplateArguments;

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// Model folder
    pub(crate) model: PathBuf,
    /// Output format
    #[arg(long, value_enum, default_value_t = ExportFormat::Gguf)]
    pub(crate) format: ExportFormat,
    /// Storage of the weights: f16, bf16, q8_0 or q4_0
    #[arg(long, default_value = "q8_0")]
    pub(crate) quant: String,
    /// File to write
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A GGUF file for llama.cpp
    Gguf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    Bf16,
}

/// The settings of an evaluation.
#[derive(Debug, Args)]
pub(crate) struct MeasureArguments {
    /// Prepared data folder of a recipe (outputs/runs/NAME/data), for suites on held-out rows
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Read a suite's questions from this file (Parquet or JSONL) instead of the hub's dataset; repeatable
    #[arg(long = "questions", value_name = "SUITE=FILE")]
    pub(crate) questions: Vec<String>,
    /// Maximum number of items per suite
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Maximum number of tokens per answer
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// Ask as plain text, without the chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// Number of few-shot examples before each gsm8k question, at most 8
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=8))]
    pub(crate) shots: u8,
    /// System message of every chat question
    #[arg(long, conflicts_with = "raw")]
    pub(crate) system_prompt: Option<String>,
    #[command(flatten)]
    pub(crate) template: TemplateArguments,
    /// Number of answers per programming task; above 1 the score is pass@k
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) samples: u16,
    /// Sampling temperature of those answers; 0 always takes the most likely token
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Seed of those answers
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Number of prompts processed at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) max_batch: u16,
    /// Compute precision and storage
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    pub(crate) dtype: Dtype,
    /// Make no network requests
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// Model folder or .gguf file
    pub(crate) model: PathBuf,
    /// LoRA adapter for the model
    #[arg(long)]
    pub(crate) adapter: Option<PathBuf>,
    /// Suites, separated by commas, such as `gsm8k,arc,mmlu,humaneval`; a wrong one lists all
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) suite: Vec<String>,
    #[command(flatten)]
    pub(crate) measure: MeasureArguments,
    /// Write the scores and a log of every item to this folder; an interrupted evaluation resumes from it
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Two or more of: a run folder, a folder or file that `eval` wrote, a model folder. The first is the baseline.
    /// `RUN@SUBJECT` selects one model of a run, such as `outputs/runs/quickstart@merge`
    #[arg(required = true, num_args = 2..)]
    pub(crate) models: Vec<String>,
    /// Suites to evaluate model folders on, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) suite: Vec<String>,
    #[command(flatten)]
    pub(crate) measure: MeasureArguments,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
