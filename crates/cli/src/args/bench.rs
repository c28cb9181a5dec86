//! Arguments of the benchmarks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Dtype, WeightArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Generation from random prompts: generated tokens/s and prompt tokens/s
    Decode(BenchDecodeArguments),
    /// Prompt processing of random prompts: tokens/s
    Prefill(BenchDecodeArguments),
    /// Requests with random prompts, first batched and then one by one: generated tokens/s of both, prompts included
    Serve(BenchDecodeArguments),
    /// QLoRA training steps on random tokens: tokens/s, GFLOP/s, peak memory
    Train(BenchTrainArguments),
    /// Train a Synapse model and a transformer of its size on synthetic tasks: recall, parity, sums modulo 5
    Tasks(BenchTasksArguments),
}

#[derive(Debug, Args)]
pub(crate) struct BenchTasksArguments {
    /// Task: recall, parity or mod5; repeatable [default: all]
    #[arg(long = "task", value_name = "TASK")]
    pub(crate) tasks: Vec<String>,
    /// Output folder of models, plots and results.json
    #[arg(long, value_name = "DIR", default_value = "outputs/tasks")]
    pub(crate) out: PathBuf,
    /// Configuration of the Synapse model instead of the built-in one; its vocabulary is replaced by the task's
    #[arg(long, value_name = "CONFIG.json")]
    pub(crate) config: Option<PathBuf>,
    /// Optimizer steps
    #[arg(long, default_value_t = 2000)]
    pub(crate) steps: u64,
    /// Documents per step
    #[arg(long, default_value_t = 32)]
    pub(crate) batch: usize,
    /// Tokens of the longest training document; shorter, easier ones are mixed in
    #[arg(long, default_value_t = 64)]
    pub(crate) length: usize,
    /// Lengths of the evaluation documents, in tokens, separated by commas
    #[arg(long, alias = "asked", value_delimiter = ',', default_values_t = [64, 256, 1024, 4096])]
    pub(crate) eval_lengths: Vec<usize>,
    /// Evaluation documents per length
    #[arg(long, default_value_t = 64)]
    pub(crate) documents: usize,
    /// Peak learning rate
    #[arg(long, default_value_t = 3e-3)]
    pub(crate) learning_rate: f64,
    /// Seed of weights and documents
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchDecodeArguments {
    /// Model folder or .gguf file
    pub(crate) model: PathBuf,
    /// Number of concurrent requests
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// Tokens per prompt
    #[arg(long, default_value_t = 512)]
    pub(crate) prompt: usize,
    /// Tokens to generate per request; not for `prefill` [default: 128]
    #[arg(long)]
    pub(crate) tokens: Option<usize>,
    /// LoRA adapter; repeatable, requests use the adapters in turn
    #[arg(long = "adapter", value_name = "DIR")]
    pub(crate) adapters: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) weights: WeightArguments,
    /// Measured rounds, whose median is reported
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchTrainArguments {
    /// Model folder; with --random-weights a config.json is enough
    pub(crate) model: PathBuf,
    /// Use random weights of the configuration's shape
    #[arg(long)]
    pub(crate) random_weights: bool,
    /// Documents per step
    #[arg(long, default_value_t = 2)]
    pub(crate) batch: usize,
    /// Tokens per document
    #[arg(long, default_value_t = 512)]
    pub(crate) seq: usize,
    /// LoRA rank, on all linear modules
    #[arg(long, default_value_t = 64)]
    pub(crate) rank: usize,
    /// LoRA dropout
    #[arg(long, default_value_t = 0.0)]
    pub(crate) dropout: f32,
    /// Storage of the frozen weights
    #[arg(long, value_enum, default_value_t = Storage::Nf4)]
    pub(crate) quantization: Storage,
    /// Precision of activations and matrix products
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    pub(crate) dtype: Dtype,
    /// Recompute activations in the backward pass
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    pub(crate) recompute: Switch,
    /// Measured steps
    #[arg(long, default_value_t = 5)]
    pub(crate) steps: usize,
    /// Unmeasured steps before them
    #[arg(long, default_value_t = 1)]
    pub(crate) warmup: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Storage {
    /// 4-bit NormalFloat, double-quantized
    Nf4,
    /// Not quantized, in the precision of --dtype
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}
