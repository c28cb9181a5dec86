//! What answers, from a prompt or behind a socket, as typed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Dtype;

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
    /// Arithmetic, and storage of what is not quantized
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    pub(crate) dtype: Dtype,
    /// Quantize weights at load, not those of a .gguf file; generated tokens then also round activations to 8 bits
    #[arg(long, value_enum, default_value_t = Quant::None)]
    pub(crate) quant: Quant,
}

/// What a model that generates is quantized to at load.
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
