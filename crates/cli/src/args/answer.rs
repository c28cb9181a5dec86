//! Arguments of the commands that generate text: `generate`, `serve` and `up`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::Dtype;

#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// Model folder or .gguf file
    pub(crate) model: PathBuf,
    /// LoRA adapter for the model
    #[arg(long)]
    pub(crate) adapter: Option<PathBuf>,
    /// User message
    #[arg(long, conflicts_with = "messages", required_unless_present = "messages")]
    pub(crate) prompt: Option<String>,
    /// JSON file with a list of messages: {"role", "content"}
    #[arg(long)]
    pub(crate) messages: Option<PathBuf>,
    /// Maximum number of tokens to generate
    #[arg(long, default_value_t = 256)]
    pub(crate) max_tokens: usize,
    /// Sampling temperature; 0 always takes the most likely token
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// Seed of sampling
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) template: TemplateArguments,
    /// Use the prompt as it is, without the chat template
    #[arg(long, requires = "prompt")]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) weights: WeightArguments,
    /// Write to which modules each layer's router sent every token, for models of the Synapse architecture
    #[arg(long, value_name = "FILE.json")]
    pub(crate) trace: Option<PathBuf>,
    /// Print JSON: text, token_ids, finish_reason, timings
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Model folder or .gguf file [default with --swarm: the adapters' base]
    #[arg(required_unless_present = "swarm")]
    pub(crate) model: Option<PathBuf>,
    /// Serve a LoRA adapter under this name; repeatable
    #[arg(long = "adapter", value_name = "NAME=DIR")]
    pub(crate) adapters: Vec<String>,
    /// Serve the specialists of a pipeline or of a folder of adapters, and the model `synapse-swarm`, which routes each
    /// conversation to the specialist that the coordinator chooses
    #[arg(long, value_name = "PIPELINE.yaml|DIR")]
    pub(crate) swarm: Option<PathBuf>,
    /// Minimum probability of the coordinator's label; below it the previous turn's label is used, or else the base model
    #[arg(long, default_value_t = 0.5, requires = "swarm")]
    pub(crate) swarm_threshold: f64,
    /// Number of specialists that draft an answer if a request needs several; the base model writes the reply from the
    /// drafts. With 0 the base model answers without drafts
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
    /// Port to listen on; 0 chooses a free one
    #[arg(long, default_value_t = 6900)]
    pub(crate) port: u16,
    /// File of API keys, one per line
    #[arg(long)]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Allow web pages of this origin (CORS), such as `https://chat.example`; repeatable
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub(crate) allowed_origins: Vec<String>,
    /// Allow clients to load and remove adapters from this folder (POST and DELETE /v1/adapters)
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter_root: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) template: TemplateArguments,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    #[command(flatten)]
    pub(crate) weights: WeightArguments,
}

/// Variables of the model's chat template.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TemplateArguments {
    /// Arguments of the model's chat template, such as '{"enable_thinking": false}'
    #[arg(long, value_name = "JSON", value_parser = json_object, default_value = "{}", hide_default_value = true)]
    pub(crate) chat_template_kwargs: Map<String, Value>,
}

fn json_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

/// A server's limits.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LimitArguments {
    /// Number of requests processed at the same time
    #[arg(long, default_value_t = 16)]
    pub(crate) max_batch: usize,
    /// Number of queued requests; further ones are refused with 429
    #[arg(long, default_value_t = 64)]
    pub(crate) max_waiting: usize,
    /// Maximum tokens of a prompt and its answer together [default: the model's maximum]
    #[arg(long)]
    pub(crate) context: Option<usize>,
    /// MiB of the prefix cache, which reuses keys and values for prompts with the same beginning, such as a conversation's next turn
    #[arg(long, default_value_t = 512)]
    pub(crate) prefix_cache: usize,
    /// Maximum tokens of a prompt or of a text to embed
    #[arg(long)]
    pub(crate) max_prompt_tokens: Option<usize>,
    /// Maximum bytes of a request
    #[arg(long, default_value_t = 4 << 20)]
    pub(crate) max_body_bytes: usize,
    /// Maximum number of loaded adapters
    #[arg(long, default_value_t = 16)]
    pub(crate) max_adapters: usize,
    /// Seconds in which a client must send a request's headers, and again its body, before the connection is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) read_timeout: u64,
    /// Seconds to finish accepted requests after SIGTERM or Ctrl-C; a second signal aborts them
    #[arg(long, default_value_t = 30)]
    pub(crate) drain: u64,
}

/// Storage and precision of a model that generates text.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WeightArguments {
    /// Compute precision, and storage of weights that are not quantized
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    pub(crate) dtype: Dtype,
    /// Quantize the weights of a model folder at load; decoding then also rounds activations to 8 bits
    #[arg(long, value_enum, default_value_t = Quant::None)]
    pub(crate) quant: Quant,
}

/// Quantization at load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Quant {
    /// No quantization
    None,
    /// 4-bit NormalFloat in blocks of 64; embedding and LM head are not quantized
    Nf4,
    /// 8 bits in blocks of 32, as in `export --quant q8_0`
    #[value(name = "q8_0")]
    Q8_0,
    /// 4 bits in blocks of 32, 8 bits for the LM head, as in `export --quant q4_0`
    #[value(name = "q4_0")]
    Q4_0,
}
