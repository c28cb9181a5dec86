//! The command line as clap parses it: the commands here, and the arguments of each group of commands in a file of its own.
//!
//! What this is not: the commands' behavior, which is in `commands`.

mod answer;
mod bench;
mod measure;
mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use answer::{
    GenerateArguments, LimitArguments, ListenArguments, Quant, ServeArguments, TemplateArguments, WeightArguments,
};
pub(crate) use bench::{BenchCommand, BenchDecodeArguments, BenchTasksArguments, BenchTrainArguments, Storage, Switch};
pub(crate) use measure::{CompareArguments, Dtype, EvalArguments, ExportArguments, ExportFormat, MeasureArguments};
pub(crate) use run::{Color, DataCommand, Device, PlanArguments, RunArguments, SearchArguments};

/// From YAML recipes to a served, merged specialist model.
#[derive(Debug, Parser)]
#[command(name = "synapse-train", version, propagate_version = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a recipe or a pipeline; finished stages are skipped
    Run(RunArguments),
    /// Search for a pipeline's best merge settings (trim, lambda, weights), in memory, by held-out loss
    Search(SearchArguments),
    /// Show what a run would do: stages, steps, tokens, memory, licenses, and the time it would take by short measurements
    Plan(PlanArguments),
    /// Validate recipes and pipelines
    Check {
        /// Files to check
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the JSON Schema of recipes and pipelines
    Schema,
    /// Fetch, prepare or show a recipe's data without training
    #[command(subcommand)]
    Data(DataCommand),
    /// Download a model from the hub
    Pull {
        /// Model id, such as organization/name
        id: String,
        /// Branch, tag or commit
        #[arg(long)]
        revision: Option<String>,
        /// Copy the model to this folder in addition to caching it
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Convert a GGUF file to a Hugging Face model folder
    Import {
        /// GGUF file to read; of a model in several parts, one of them or their folder
        file: PathBuf,
        /// Model folder to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Convert a model folder to another format
    Export(ExportArguments),
    /// Evaluate a model
    Eval(EvalArguments),
    /// Compare models on the same items, with confidence intervals
    Compare(CompareArguments),
    /// Continue a prompt or a conversation
    Generate(GenerateArguments),
    /// Serve a model behind an OpenAI-compatible API
    Serve(ServeArguments),
    /// Serve the model that was published last
    Up(ListenArguments),
    /// Measure the speed and memory of workloads on this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Write the report.html of a run and print its path
    Report {
        /// Run folder, such as outputs/runs/quickstart
        run: PathBuf,
    },
    /// List the runs in outputs/ and their finished stages
    Status {
        /// Folder that contains `runs/`
        #[arg(long, default_value = "outputs")]
        outputs: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell, such as `source <(synapse-train completions bash)`
    Completions {
        /// Shell to complete for
        #[arg(value_enum)]
        shell: Shell,
    },
}
