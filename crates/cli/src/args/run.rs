//! Arguments of the commands that work on recipes and pipelines.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use synapse_recipe::Stage;

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// Recipe or pipeline
    pub(crate) file: PathBuf,
    /// Override a value, such as `--set train.epochs=1`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Repeat this stage and the following ones: fetch, prepare, train, evaluate, merge, gate or export
    #[arg(long)]
    pub(crate) from: Option<Stage>,
    /// Stop after this stage (see --from)
    #[arg(long)]
    pub(crate) until: Option<Stage>,
    /// Repeat every stage
    #[arg(long)]
    pub(crate) force: bool,
    /// Publish to this folder instead of the recipe's `output`
    #[arg(long)]
    pub(crate) output: Option<PathBuf>,
    /// Device of the training steps
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub(crate) device: Device,
    /// Make no network requests
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// The first available GPU that this build supports, else the CPU kernels
    Auto,
    /// The CPU kernels
    Cpu,
    /// candle on the CPU: slow, the reference for the other backends (feature `candle`, on by default)
    CandleCpu,
    /// candle on the first CUDA device (feature `cuda`)
    Cuda,
    /// candle on the Metal device (feature `metal`)
    Metal,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArguments {
    /// Pipeline; specialists that are not trained yet are trained first
    pub(crate) file: PathBuf,
    /// Override a value, such as `--set gate.max_regress=0.01`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Trims to try, separated by commas, in addition to the pipeline's own [default: 0.5,0.7,0.8,0.9]
    #[arg(long, value_name = "TRIM,...", value_delimiter = ',')]
    pub(crate) trims: Vec<f64>,
    /// Lambdas to try, in addition to the pipeline's own [default: 0.6,0.8,1,1.3,1.6,2]
    #[arg(long, value_name = "LAMBDA,...", value_delimiter = ',')]
    pub(crate) lambdas: Vec<f64>,
    /// Factors by which to scale one specialist's weight around the best settings found so far
    #[arg(long, value_name = "FACTOR,...", value_delimiter = ',', default_values_t = [0.7, 1.4])]
    pub(crate) weight_factors: Vec<f64>,
    /// Rounds of trying changes of one value around the best settings
    #[arg(long, default_value_t = 2)]
    pub(crate) rounds: usize,
    /// Held-out rows per domain in the first trials; the last trials use all rows
    #[arg(long, default_value_t = 8)]
    pub(crate) rows: usize,
    /// Number of best points that are evaluated on the pipeline's suites
    #[arg(long, default_value_t = 3)]
    pub(crate) finalists: usize,
    /// Seed of the choice of rows
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Device of the training steps, if a specialist has to be trained
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub(crate) device: Device,
    /// Make no network requests
    #[arg(long)]
    pub(crate) offline: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// Recipe or pipeline
    pub(crate) file: PathBuf,
    /// Override a value, such as `--set train.epochs=1`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Fetch the base and the datasets of a recipe and print their paths
    Fetch {
        #[command(flatten)]
        run: RunArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Prepare a recipe's data and print a summary; the exit code is 1 if it violates the recipe's limits or has rows
    /// longer than the base's positions
    Report {
        #[command(flatten)]
        run: RunArguments,
        /// Print the whole manifest as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one prepared row: 【target tokens】 with loss, and tokens that were ⟪truncated⟫
    Inspect {
        #[command(flatten)]
        run: RunArguments,
        /// Index of the row
        #[arg(long, default_value_t = 0)]
        row: usize,
        /// Mark tokens by color instead of brackets
        #[arg(long, value_enum, default_value_t = Color::Auto)]
        color: Color,
        /// Print every token as JSON: id, text, and whether it is a target
        #[arg(long)]
        json: bool,
    },
}

/// When to write colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// Only on a terminal, and only if NO_COLOR is not set
    Auto,
    Always,
    Never,
}
