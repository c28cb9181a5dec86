//! The supported model families, and how config.json names them.

use serde_json::Value;

use crate::config_fields::Fields;
use crate::error::Result;

/// The model families that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `LlamaForCausalLM`: Llama 2 and 3, SmolLM2, TinyLlama …
    Llama,
    /// `MistralForCausalLM`: Mistral and Ministral without a sliding window; a Llama by another name.
    Mistral,
    /// `SmolLM3ForCausalLM`: a Llama some of whose layers do not rotate queries and keys.
    SmolLM3,
    /// `Qwen2ForCausalLM`: Qwen2 and Qwen2.5; q/k/v always carry biases.
    Qwen2,
    /// `Qwen3ForCausalLM`: the dense Qwen3; every head of queries and keys is normalized before its rotation.
    Qwen3,
    /// `SynapseForCausalLM`: this project's own, without attention; see [`crate::SynapseConfig`].
    Synapse,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 6] = [
        Self::Llama,
        Self::Mistral,
        Self::SmolLM3,
        Self::Qwen2,
        Self::Qwen3,
        Self::Synapse,
    ];

    /// The name in config.json's `architectures`.
    #[must_use]
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::SmolLM3 => "SmolLM3ForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::Synapse => "SynapseForCausalLM",
        }
    }

    /// The name in config.json's `model_type`.
    #[must_use]
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::SmolLM3 => "smollm3",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Synapse => "synapse",
        }
    }

    /// The name in GGUF's `general.architecture`, where llama.cpp has one: to it a Mistral is a Llama.
    #[must_use]
    pub fn gguf_name(self) -> Option<&'static str> {
        match self {
            Self::Synapse => None,
            Self::Mistral => Some(Self::Llama.model_type()),
            Self::Llama | Self::SmolLM3 | Self::Qwen2 | Self::Qwen3 => Some(self.model_type()),
        }
    }

    /// The architecture that `architectures` names, or `model_type` if that is missing.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self> {
        let known = Self::ALL;
        let supported = known.map(Self::class_name).join(", ");
        let named = match fields.get("architectures") {
            Some(Value::Array(names)) if names.len() == 1 => names[0].as_str().map(|name| ("architectures", name)),
            Some(other) => {
                return Err(fields.error("architectures", format!("must list one class name, found {other}")));
            }
            None => None,
        };
        let model_type = fields.get("model_type").and_then(Value::as_str);
        let by_type =
            model_type.and_then(|name| known.into_iter().find(|architecture| architecture.model_type() == name));
        let architecture = match named {
            Some((field, name)) => known
                .into_iter()
                .find(|architecture| architecture.class_name() == name)
                .ok_or_else(|| {
                    fields.error(
                        field,
                        format!("is `{name}`, which is not supported; supported: {supported}"),
                    )
                })?,
            None => by_type.ok_or_else(|| {
                fields.error(
                    "architectures",
                    format!(
                        "is missing and `model_type` is {}; supported: {supported}",
                        model_type.unwrap_or("missing too")
                    ),
                )
            })?,
        };
        match model_type {
            Some(name) if name != architecture.model_type() => Err(fields.error(
                "model_type",
                format!("is `{name}`, but `architectures` says {}", architecture.class_name()),
            )),
            _ => Ok(architecture),
        }
    }
}
