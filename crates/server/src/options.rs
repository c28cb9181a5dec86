//! How a server behaves: its limits, its timeouts, and the defaults of sampling.

use std::time::Duration;

use synapse_engine::SamplingOptions;

use crate::adapter_root::AdapterRoot;
use crate::api_keys::ApiKeys;
use crate::router::Swarm;

/// How the server behaves; everything except the model's name has a default.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// The id of the base model in `/v1/models` and in requests.
    pub model: String,
    /// Values of sampling fields that a request leaves out.
    pub defaults: SamplingDefaults,
    /// Keys for all routes that compute or change something; `None` allows requests without a key.
    pub api_keys: Option<ApiKeys>,
    /// Origins of web pages, other than the server's own, that may call the server from a browser; `*` allows all.
    pub allowed_origins: Vec<String>,
    /// The maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// The maximum number of completions per request (`n` times its prompts).
    pub max_choices: usize,
    /// The maximum number of texts per embedding request.
    pub max_inputs: usize,
    /// The maximum number of tokens of a prompt or text, if less than the context.
    pub max_prompt_tokens: Option<usize>,
    /// A model name that routes each conversation to an adapter.
    pub swarm: Option<Swarm>,
    /// Where adapters may be loaded from while the server runs; `None` forbids changes.
    pub adapters: Option<AdapterRoot>,
    /// The interval of keep-alive comments on a stream without tokens, so that proxies do not close it.
    pub keep_alive: Duration,
    /// How long a client may take to send a request's head, and then its body.
    pub read_timeout: Duration,
    /// How long accepted requests may go on after the signal to stop.
    pub drain: Duration,
}

impl ServerOptions {
    /// The defaults, for a base model of this name.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            defaults: SamplingDefaults::default(),
            api_keys: None,
            allowed_origins: Vec::new(),
            max_body_bytes: 4 << 20,
            max_choices: 16,
            max_inputs: 256,
            max_prompt_tokens: None,
            swarm: None,
            adapters: None,
            keep_alive: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

/// Sampling fields that a request leaves out: OpenAI's defaults, or those of the model's generation_config.json.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingDefaults {
    /// Divides the logits.
    pub temperature: f32,
    /// The probability mass of the tokens to sample from.
    pub top_p: f32,
    /// The number of most likely tokens to sample from; 0 keeps all.
    pub top_k: usize,
    /// Penalty on tokens of prompt and completion; 1 is off.
    pub repetition_penalty: f32,
}

impl Default for SamplingDefaults {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            repetition_penalty: 1.0,
        }
    }
}

impl SamplingDefaults {
    pub(crate) fn options(self) -> SamplingOptions {
        let Self {
            temperature,
            top_p,
            top_k,
            repetition_penalty,
        } = self;
        SamplingOptions {
            temperature,
            top_p,
            top_k,
            repetition_penalty,
            ..SamplingOptions::default()
        }
    }
}
