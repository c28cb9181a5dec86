//! What measures and exports models, as typed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The model folder
    pub(crate) model: PathBuf,
    /// Format to write
    #[arg(long, value_enum, default_value_t = ExportFormat::Gguf)]
    pub(crate) format: ExportFormat,
    /// f16, bf16, q8_0 or q4_0
    #[arg(long, default_value = "q8_0")]
    pub(crate) quant: String,
    /// The file to write
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One GGUF file, for llama.cpp
    Gguf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    Bf16,
}

/// What is asked of a model, and how.
#[derive(Debug, Args)]
pub(crate) struct MeasureArguments {
    /// Prepared data folder of a recipe (outputs/runs/NAME/data), for suites over held-out rows
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// A suite's questions from this file (parquet, JSONL) instead of the hub's dataset; repeatable
    #[arg(long = "questions", value_name = "SUITE=FILE")]
    pub(crate) questions: Vec<String>,
    /// Items of each suite, at most
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// Tokens of one answer, at most
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// Ask benchmarks as plain text, without the chat template
    #[arg(long)]
    pub(crate) raw: bool,
    /// Worked examples before each question of gsm8k, at most 8
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=8))]
    pub(crate) shots: u8,
    /// System turn of every chat question
    #[arg(long, conflicts_with = "raw")]
    pub(crate) system_prompt: Option<String>,
    /// Answers to each programming task; above 1 the score is pass@k
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) samples: u16,
    /// Temperature of those answers; 0 takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Seeds those answers
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Prompts that are answered together
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) max_batch: u16,
    /// Arithmetic and storage
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    pub(crate) dtype: Dtype,
    /// Ask the network for nothing
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EvalArguments {
    /// The model folder, or a .gguf file
    pub(crate) model: PathBuf,
    /// A LoRA adapter over it
    #[arg(long)]
    pub(crate) adapter: Option<PathBuf>,
    /// Suites, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) suite: Vec<String>,
    #[command(flatten)]
    pub(crate) measure: MeasureArguments,
    /// Write the numbers and a log of every item here; an interrupted evaluation goes on there
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Two or more of: a run's folder, a folder or file that `eval` wrote, a model folder; the first is what the others
    /// are held against. `@SUBJECT` behind a run's folder picks one of its models
    #[arg(required = true, num_args = 2..)]
    pub(crate) models: Vec<String>,
    /// Suites to measure model folders with, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub(crate) suite: Vec<String>,
    #[command(flatten)]
    pub(crate) measure: MeasureArguments,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}
