//! The command line as typed. Each command's own file resolves it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use synapse_recipe::Stage;

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
    /// Show what would run: stages, steps, tokens, memory, licences
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
        /// organisation/name
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

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The recipe or pipeline
    pub(crate) file: PathBuf,
    /// Override a value, such as `--set train.epochs=1`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Repeat this stage and those after it
    #[arg(long, value_parser = stage)]
    pub(crate) from: Option<Stage>,
    /// Stop after this stage
    #[arg(long, value_parser = stage)]
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

fn stage(word: &str) -> Result<Stage, String> {
    Stage::ALL.into_iter().find(|stage| stage.id() == word).ok_or_else(|| {
        let known: Vec<_> = Stage::ALL.iter().map(|stage| stage.id()).collect();
        format!("stages are {}", known.join(", "))
    })
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
    /// By what one specialist's weight is multiplied in the neighbours of the best
    #[arg(long, value_name = "FACTOR,...", value_delimiter = ',', default_values_t = [0.7, 1.4])]
    pub(crate) weight_factors: Vec<f64>,
    /// How often the neighbours of the best are tried
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
        /// Colours instead of brackets
        #[arg(long, value_enum, default_value_t = Colour::Auto)]
        color: Colour,
        /// Every token as JSON: id, text, whether it is trained
        #[arg(long)]
        json: bool,
    },
}

/// When to write colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

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

#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// The model folder, or a .gguf file
    pub(crate) model: PathBuf,
    /// A LoRA adapter over it
    #[arg(long)]
    pub(crate) adapter: Option<PathBuf>,
    /// What the user says
    #[arg(long, conflicts_with = "messages", required_unless_present = "messages")]
    pub(crate) prompt: Option<String>,
    /// A JSON file with a list of {"role", "content"}
    #[arg(long)]
    pub(crate) messages: Option<PathBuf>,
    /// Tokens of the answer, at most
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// 0 takes the likeliest token
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Seeds sampling
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Take the prompt as it is, without the chat template
    #[arg(long, requires = "prompt")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) weights: WeightArguments,
    /// Write what each layer's modules did with every token, of a model that sends tokens to modules
    #[arg(long, value_name = "FILE.json")]
    pub(crate) trace: Option<PathBuf>,
    /// As JSON: text, token_ids, finish_reason, timings
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The model folder or .gguf file; with --swarm the adapters' base where it is left out
    #[arg(required_unless_present = "swarm")]
    pub(crate) model: Option<PathBuf>,
    /// Serve an adapter under a name of its own; repeatable
    #[arg(long = "adapter", value_name = "NAME=DIR")]
    pub(crate) adapters: Vec<String>,
    /// Serve the specialists of a pipeline, or of a folder of adapters, and the model `synapse-swarm`, under which their
    /// coordinator sends each conversation to the one that fits
    #[arg(long, value_name = "PIPELINE.yaml|DIR")]
    pub(crate) swarm: Option<PathBuf>,
    /// Probability that a label needs to decide; below it the turn before decides, or the base answers
    #[arg(long, default_value_t = 0.5, requires = "swarm")]
    pub(crate) swarm_threshold: f64,
    /// Specialists that draft an answer, for the base to write the reply from, where a request needs several of them;
    /// 0 lets the base answer without drafts
    #[arg(long, value_name = "N", default_value_t = 2, requires = "swarm")]
    pub(crate) swarm_drafts: usize,
    #[command(flatten)]
    pub(crate) listen: ListenArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ListenArguments {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 6900)]
    pub(crate) port: u16,
    /// File with one API key a line
    #[arg(long)]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Let pages of this origin use the server from a browser, such as `https://chat.example`; repeatable
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub(crate) allowed_origins: Vec<String>,
    /// Let adapters below this folder be loaded and removed while the server runs (POST and DELETE /v1/adapters)
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter_root: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) weights: WeightArguments,
}

/// How much a server takes on.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LimitArguments {
    /// Requests answered together
    #[arg(long, default_value_t = 16)]
    pub(crate) max_batch: usize,
    /// Requests that may wait for that before further ones are refused with 429
    #[arg(long, default_value_t = 64)]
    pub(crate) max_waiting: usize,
    /// Tokens of a prompt and its answer together, where the model would hold more
    #[arg(long)]
    pub(crate) context: Option<usize>,
    /// MiB of keys and values of earlier prompts kept for prompts that begin alike, such as a conversation's next turn
    #[arg(long, default_value_t = 512)]
    pub(crate) prefix_cache: usize,
    /// Tokens of a prompt, or of a text to embed
    #[arg(long)]
    pub(crate) max_prompt_tokens: Option<usize>,
    /// Bytes of a request
    #[arg(long, default_value_t = 4 << 20)]
    pub(crate) max_body_bytes: usize,
    /// Adapters loaded at a time
    #[arg(long, default_value_t = 16)]
    pub(crate) max_adapters: usize,
    /// Seconds that a client has to send a request's head, and again for its body; then its connection is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) read_timeout: u64,
    /// Seconds that accepted requests have after SIGTERM or Ctrl-C; a second signal cuts them off
    #[arg(long, default_value_t = 30)]
    pub(crate) drain: u64,
}

/// How a model that generates is held in memory.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WeightArguments {
    /// Arithmetic, and storage of what is not quantised
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    pub(crate) dtype: Dtype,
    /// Quantise weights at load, not those of a .gguf file; generated tokens then also round activations to 8 bits
    #[arg(long, value_enum, default_value_t = Quant::None)]
    pub(crate) quant: Quant,
}

/// What a model that generates is quantised to at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Quant {
    /// As stored
    None,
    /// 4-bit NormalFloat in blocks of 64; embedding and head as stored
    Nf4,
    /// As `export --quant q8_0` does: 8 bits in blocks of 32
    #[value(name = "q8_0")]
    Q8_0,
    /// As `export --quant q4_0` does: 4 bits in blocks of 32, the output head 8
    #[value(name = "q4_0")]
    Q4_0,
}

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
    /// Optimiser steps
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
    /// 4-bit NormalFloat, double-quantised
    Nf4,
    /// The precision of the products
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}
