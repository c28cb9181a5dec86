//! What runs, plans and shows a recipe's data, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use synapse_recipe::Stage;

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The recipe or pipeline
    pub(crate) file: PathBuf,
    /// Override a value, such as `--set train.epochs=1`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Repeat this stage and those after it
    #[arg(long)]
    pub(crate) from: Option<Stage>,
    /// Stop after this stage
    #[arg(long)]
    pub(crate) until: Option<Stage>,
    /// Repeat every stage
    #[arg(long)]
    pub(crate) force: bool,
    /// Publish here instead of the recipe's `output`
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    /// What computes the training steps
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub(crate) device: Device,
    /// Ask the network for nothing
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// A GPU that is built in and there, else the CPU kernels
    Auto,
    /// The CPU kernels
    Cpu,
    /// candle on the CPU: the reference path, slow (built with the feature `candle`)
    CandleCpu,
    /// candle on the first CUDA device (built with the feature `cuda`)
    Cuda,
    /// candle on the Metal device (built with the feature `metal`)
    Metal,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    /// The pipeline; what is not trained yet is trained first
    pub(crate) file: PathBuf,
    /// Override a value, such as `--set gate.max_regress=0.01`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Trims to try, separated by commas, beside the pipeline's own [default: 0.5,0.7,0.8,0.9]
    #[arg(long, value_name = "TRIM,...", value_delimiter = ',')]
    pub(crate) trims: Vec<f64>,
    /// Lambdas to try, beside the pipeline's own [default: 0.6,0.8,1,1.3,1.6,2]
    #[arg(long, value_name = "LAMBDA,...", value_delimiter = ',')]
    pub(crate) lambdas: Vec<f64>,
    /// By what one specialist's weight is multiplied in the neighbors of the best
    #[arg(long, value_name = "FACTOR,...", value_delimiter = ',', default_values_t = [0.7, 1.4])]
    pub(crate) weight_factors: Vec<f64>,
    /// How often the neighbors of the best are tried
    #[arg(long, default_value_t = 2)]
    pub(crate) rounds: usize,
    /// Held-out rows of every domain that the first trials see; the last see all
    #[arg(long, default_value_t = 8)]
    pub(crate) rows: usize,
    /// How many of the best answer the pipeline's suites
    #[arg(long, default_value_t = 3)]
    pub(crate) finalists: usize,
    /// Which rows come first
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// What computes the training steps, where something is to be trained
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub(crate) device: Device,
    /// Ask the network for nothing
    #[arg(long)]
    pub(crate) offline: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The recipe or pipeline
    pub(crate) file: PathBuf,
    /// Override a value
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Fetch what a recipe needs, and say where it lies
    Fetch {
        #[command(flatten)]
        run: RunArguments,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Prepare a recipe's data and say what is in it; exits with 1 when it breaks the recipe's limits
    Report {
        #[command(flatten)]
        run: RunArguments,
        /// The whole manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one prepared row as the training step sees it: trained 【tokens】, and those ⟪cut off⟫ its end
    Inspect {
        #[command(flatten)]
        run: RunArguments,
        /// Index of the row
        #[arg(long, default_value_t = 0)]
        row: usize,
        /// Colors instead of brackets
        #[arg(long, value_enum, default_value_t = Color::Auto)]
        color: Color,
        /// Every token as JSON: id, text, whether it is trained
        #[arg(long)]
        json: bool,
    },
}

/// When to write colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}
