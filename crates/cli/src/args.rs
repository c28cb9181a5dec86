//! The command line as typed: the commands themselves, and the arguments of each group in a file of its own. Each
//! command's own file resolves it.

mod answer;
mod bench;
mod measure;
mod run;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use answer::{GenerateArguments, LimitArguments, ListenArguments, Quant, ServeArguments, WeightArguments};
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
    /// Run a recipe or a pipeline; finished stages are not repeated
    Run(RunArguments),
    /// Search a pipeline's merge for its trim, lambda and weights: on held-out loss, in memory, under the gate
    Search(SearchArguments),
    /// Show what would run: stages, steps, tokens, memory, licenses
    Plan(PlanArguments),
    /// Validate recipes and pipelines
    Check {
        /// Files to check
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print the recipes' JSON Schema
    Schema,
    /// Work with a recipe's data alone
    #[command(subcommand)]
    Data(DataCommand),
    /// Download a model from the hub
    Pull {
        /// organization/name
        id: String,
        /// Branch, tag or commit
        #[arg(long)]
        revision: Option<String>,
        /// Copy the snapshot here instead of only caching it
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Turn a GGUF file into a Hugging Face model folder
    Import {
        /// The file
        file: PathBuf,
        /// The folder to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Write a model folder in another format
    Export(ExportArguments),
    /// Measure a model
    Eval(EvalArguments),
    /// Hold models against each other on the same items, with intervals
    Compare(CompareArguments),
    /// Continue a prompt or a conversation
    Generate(GenerateArguments),
    /// Serve a model behind an OpenAI-compatible API
    Serve(ServeArguments),
    /// Serve what was published last
    Up(ListenArguments),
    /// Measure what a workload costs on this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Write a run's report.html from what its folder holds, and say where it is
    Report {
        /// The run's folder, such as outputs/runs/quickstart
        run: PathBuf,
    },
    /// Show the runs below outputs/
    Status {
        /// Where runs are
        #[arg(long, default_value = "outputs")]
        outputs: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}
