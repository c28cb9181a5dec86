//! The benchmarks, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Dtype, WeightArguments};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Answers to random prompts: generated tokens/s, and the prompts' beside them
    Decode(BenchDecodeArguments),
    /// Random prompts: tokens/s
    Prefill(BenchDecodeArguments),
    /// Answers to random prompts, all together and one after the other: generated tokens/s of both, prompts included
    Serve(BenchDecodeArguments),
    /// QLoRA steps on random tokens: tokens/s, GFLOP/s, peak memory
    Train(BenchTrainArguments),
    /// The Synapse architecture and a transformer of its size learn synthetic tasks: recall, parity, sums modulo 5
    Tasks(BenchTasksArguments),
}

#[derive(Debug, Args)]
pub(crate) struct BenchTasksArguments {
    /// recall, parity or mod5; repeatable, all of them where none is named
    #[arg(long = "task", value_name = "TASK")]
    pub(crate) tasks: Vec<String>,
    /// Where models, plots and results.json go
    #[arg(long, value_name = "DIR", default_value = "outputs/tasks")]
    pub(crate) out: PathBuf,
    /// Another Synapse model than the built-in one: a config.json, its vocabulary put aside
    #[arg(long, value_name = "CONFIG.json")]
    pub(crate) config: Option<PathBuf>,
    /// Optimizer steps
    #[arg(long, default_value_t = 2000)]
    pub(crate) steps: u64,
    /// Documents of a step
    #[arg(long, default_value_t = 32)]
    pub(crate) batch: usize,
    /// Tokens of the longest document in training; shorter ones, which are easier, are among them
    #[arg(long, default_value_t = 64)]
    pub(crate) length: usize,
    /// Tokens of the documents that are asked in afterwards
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 1024, 4096])]
    pub(crate) asked: Vec<usize>,
    /// Documents of each of these lengths
    #[arg(long, default_value_t = 64)]
    pub(crate) documents: usize,
    /// Peak of the learning rate
    #[arg(long, default_value_t = 3e-3)]
    pub(crate) learning_rate: f64,
    /// Seeds weights and documents
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchDecodeArguments {
    /// The model folder, or a .gguf file
    pub(crate) model: PathBuf,
    /// Requests answered together
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// Tokens of a prompt
    #[arg(long, default_value_t = 512)]
    pub(crate) prompt: usize,
    /// Tokens generated for each, 128 if not said; a prefill generates none
    #[arg(long)]
    pub(crate) tokens: Option<usize>,
    /// Requests take these adapters in turn; repeatable
    #[arg(long = "adapter", value_name = "DIR")]
    pub(crate) adapters: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) weights: WeightArguments,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchTrainArguments {
    /// The model folder, or with --random-weights a config.json
    pub(crate) model: PathBuf,
    /// Random weights of the configuration's shape
    #[arg(long)]
    pub(crate) random_weights: bool,
    /// Documents of a step
    #[arg(long, default_value_t = 2)]
    pub(crate) batch: usize,
    /// Tokens of a document
    #[arg(long, default_value_t = 512)]
    pub(crate) seq: usize,
    /// Rank of LoRA on all linears
    #[arg(long, default_value_t = 64)]
    pub(crate) rank: usize,
    /// LoRA dropout
    #[arg(long, default_value_t = 0.0)]
    pub(crate) dropout: f32,
    /// Storage of the frozen weights
    #[arg(long, value_enum, default_value_t = Storage::Nf4)]
    pub(crate) quantization: Storage,
    /// Precision of activations and products
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    pub(crate) dtype: Dtype,
    /// Compute layers again in the backward pass
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    pub(crate) recompute: Switch,
    /// Steps that count
    #[arg(long, default_value_t = 5)]
    pub(crate) steps: usize,
    /// Steps before those
    #[arg(long, default_value_t = 1)]
    pub(crate) warmup: usize,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Storage {
    /// 4-bit NormalFloat, double-quantized
    Nf4,
    /// The precision of the products
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}
