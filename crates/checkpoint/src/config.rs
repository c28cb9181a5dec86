//! config.json of a supported model, resolved into plain numbers. Settings that would change the arithmetic and are not
//! implemented (sliding windows, other activations, other RoPE scalings, quantized weights) are refused by name here,
//! so that no later stage has to check them. It knows the tensors of each architecture, not the computation.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::architecture::Architecture;
use crate::config_fields::Fields;
use crate::error::{CheckpointError, Result};
use crate::rope_scaling::Llama3RopeScaling;
use crate::synapse::SynapseConfig;

/// config.json of a supported model, resolved: no `Option` left except RoPE scaling, the first token and the modules.
/// Fields of attention and its MLP are 0 in an architecture that has none.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The model family.
    pub architecture: Architecture,
    /// The modules of a layer, for [`Architecture::Synapse`] and no other.
    pub synapse: Option<SynapseConfig>,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key/value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Llama 3's scaling of the rotary frequencies, where the model has one.
    pub rope_scaling: Option<Llama3RopeScaling>,
    /// Rows of the embedding, padding rows included.
    pub vocab_size: usize,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// The longest context, in tokens.
    pub max_position_embeddings: usize,
    /// q/k/v projections carry biases (Qwen2 always; Llama, SmolLM3 and Qwen3 with `attention_bias`).
    pub qkv_bias: bool,
    /// The output projection carries a bias (as q/k/v, but never in Qwen2).
    pub o_bias: bool,
    /// RMSNorm over each head of queries and keys, before their rotation (Qwen3).
    pub qk_norm: bool,
    /// Layers that do not rotate queries and keys, ascending (SmolLM3).
    pub no_rope_layers: Vec<usize>,
    /// First token, for tokenizers that want one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a generation; may be empty.
    pub eos_token_ids: Vec<u32>,
    /// Standard deviation of freshly initialized weights.
    pub initializer_range: f64,
}

impl ModelConfig {
    /// Reads and checks `folder/config.json`.
    ///
    /// # Errors
    /// The file is missing, is not JSON, or describes a model that is not supported; the message names the field.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(CheckpointError::io("read", &path))?;
        Self::from_json(&text, &path)
    }

    /// Parses and checks the text of a config.json; `path` is only named in messages.
    ///
    /// # Errors
    /// The text is not JSON, or describes a model that is not supported; the message names the field.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let root: Map<String, Value> = serde_json::from_str(text).map_err(CheckpointError::json(path))?;
        let fields = Fields::new(&root, path);
        let architecture = Architecture::read(&fields)?;
        fields.refuse_unsupported()?;
        if architecture == Architecture::Synapse {
            return Self::read_synapse(&fields);
        }

        let hidden_size = fields.size("hidden_size")?;
        let num_attention_heads = fields.size("num_attention_heads")?;
        let head_dim = match fields.optional_size("head_dim")? {
            Some(head_dim) => head_dim,
            None if architecture == Architecture::Qwen3 => 128,
            None if hidden_size.is_multiple_of(num_attention_heads) => hidden_size / num_attention_heads,
            None => {
                return Err(fields.error(
                    "hidden_size",
                    format!("is {hidden_size}, which is not a multiple of `num_attention_heads` {num_attention_heads}"),
                ));
            }
        };
        let attention_bias = attention_bias(&fields, architecture)?;
        let num_hidden_layers = fields.size("num_hidden_layers")?;
        let max_position_embeddings = fields.size("max_position_embeddings")?;
        let no_rope_layers = if architecture == Architecture::SmolLM3 {
            no_rope_layers(&fields, num_hidden_layers)?
        } else {
            Vec::new()
        };
        if architecture == Architecture::Mistral {
            refuse_sliding_window(&fields, max_position_embeddings)?;
        }
        let (rope_theta, rope_scaling) = Llama3RopeScaling::read(&fields, architecture)?;
        let config = Self {
            architecture,
            synapse: None,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: key_value_heads(&fields, architecture)?.unwrap_or(num_attention_heads),
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            vocab_size: fields.size("vocab_size")?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", architecture == Architecture::SmolLM3)?,
            max_position_embeddings,
            qkv_bias: attention_bias,
            o_bias: attention_bias && architecture != Architecture::Qwen2,
            qk_norm: architecture == Architecture::Qwen3,
            no_rope_layers,
            bos_token_id: fields.first_token_id("bos_token_id")?,
            eos_token_ids: fields.token_ids("eos_token_id")?,
            initializer_range: fields.positive("initializer_range", 0.02)?,
        };
        config.check(&fields)?;
        Ok(config)
    }

    /// Reads a model without attention: the fields common to all families, and its modules.
    fn read_synapse(fields: &Fields<'_>) -> Result<Self> {
        let config = Self {
            architecture: Architecture::Synapse,
            synapse: Some(SynapseConfig::read(fields)?),
            hidden_size: fields.size("hidden_size")?,
            intermediate_size: 0,
            num_hidden_layers: fields.size("num_hidden_layers")?,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            head_dim: 0,
            rms_norm_eps: fields.positive("rms_norm_eps", 1e-6)?,
            rope_theta: 0.0,
            rope_scaling: None,
            vocab_size: fields.size("vocab_size")?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", true)?,
            max_position_embeddings: fields.size("max_position_embeddings")?,
            qkv_bias: false,
            o_bias: false,
            qk_norm: false,
            no_rope_layers: Vec::new(),
            bos_token_id: fields.first_token_id("bos_token_id")?,
            eos_token_ids: fields.token_ids("eos_token_id")?,
            initializer_range: fields.positive("initializer_range", 0.02)?,
        };
        config.check_tokens(fields)?;
        Ok(config)
    }

    fn check(&self, fields: &Fields<'_>) -> Result<()> {
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(fields.error(
                "num_key_value_heads",
                format!(
                    "is {}, which does not divide `num_attention_heads` {}",
                    self.num_key_value_heads, self.num_attention_heads
                ),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(fields.error(
                "head_dim",
                format!("is {}, but rotary positions need an even width", self.head_dim),
            ));
        }
        self.check_tokens(fields)
    }

    fn check_tokens(&self, fields: &Fields<'_>) -> Result<()> {
        let limit = u32::try_from(self.vocab_size).unwrap_or(u32::MAX);
        for (field, id) in self
            .bos_token_id
            .iter()
            .map(|id| ("bos_token_id", id))
            .chain(self.eos_token_ids.iter().map(|id| ("eos_token_id", id)))
        {
            if *id >= limit {
                return Err(fields.error(field, format!("is {id}, beyond the vocabulary of {limit} tokens")));
            }
        }
        Ok(())
    }

    /// The text of a config.json that transformers (4 and 5), vLLM and this crate read back to the same model.
    #[must_use]
    pub fn to_json(&self) -> String {
        if let Some(modules) = &self.synapse {
            let mut root = json!({
                "architectures": [self.architecture.class_name()],
                "model_type": self.architecture.model_type(),
                "bos_token_id": self.bos_token_id,
                "eos_token_id": self.eos(),
                "hidden_size": self.hidden_size,
                "initializer_range": self.initializer_range,
                "max_position_embeddings": self.max_position_embeddings,
                "num_hidden_layers": self.num_hidden_layers,
                "rms_norm_eps": self.rms_norm_eps,
                "tie_word_embeddings": self.tie_word_embeddings,
                "torch_dtype": "bfloat16",
                "vocab_size": self.vocab_size,
            });
            modules.write(&mut root);
            return format!("{root:#}\n");
        }
        let scaling = self.rope_scaling.as_ref().map(|scaling| {
            json!({
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_max_position_embeddings,
            })
        });
        let mut root = json!({
            "architectures": [self.architecture.class_name()],
            "model_type": self.architecture.model_type(),
            "attention_dropout": 0.0,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos(),
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "initializer_range": self.initializer_range,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": scaling,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_word_embeddings,
            "torch_dtype": "bfloat16",
            "vocab_size": self.vocab_size,
        });
        match self.architecture {
            Architecture::Llama => {
                root["attention_bias"] = json!(self.qkv_bias);
                root["mlp_bias"] = json!(false);
            }
            Architecture::Mistral => root["sliding_window"] = Value::Null,
            Architecture::SmolLM3 => {
                let rotated = |layer: usize| u8::from(self.is_rotated(layer));
                root["attention_bias"] = json!(self.qkv_bias);
                // Without it transformers takes the published model's, which other vocabularies do not hold.
                root["pad_token_id"] = Value::Null;
                root["no_rope_layers"] = (0..self.num_hidden_layers).map(rotated).collect();
                root["use_sliding_window"] = json!(false);
            }
            Architecture::Qwen2 => root["use_sliding_window"] = json!(false),
            Architecture::Qwen3 => {
                root["attention_bias"] = json!(self.qkv_bias);
                root["use_sliding_window"] = json!(false);
            }
            Architecture::Synapse => {}
        }
        format!("{root:#}\n")
    }

    fn eos(&self) -> Value {
        match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        }
    }

    /// Every tensor the architecture needs, as (name, shape), in file order: embedding, layers, norm, and the head if untied.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = vec![(
            "model.embed_tokens.weight".to_owned(),
            vec![self.vocab_size, self.hidden_size],
        )];
        for layer in 0..self.num_hidden_layers {
            let prefix = format!("model.layers.{layer}");
            if let Some(modules) = &self.synapse {
                let own = modules.layer_tensors(layer, self.hidden_size);
                tensors.extend(own.into_iter().map(|(name, shape)| (format!("{prefix}.{name}"), shape)));
                continue;
            }
            tensors.push((format!("{prefix}.input_layernorm.weight"), vec![self.hidden_size]));
            for (module, out_features, in_features) in self.linear_modules() {
                if module == "mlp.gate_proj" {
                    for norm in ["q_norm", "k_norm"].into_iter().filter(|_| self.qk_norm) {
                        tensors.push((format!("{prefix}.self_attn.{norm}.weight"), vec![self.head_dim]));
                    }
                    tensors.push((
                        format!("{prefix}.post_attention_layernorm.weight"),
                        vec![self.hidden_size],
                    ));
                }
                tensors.push((format!("{prefix}.{module}.weight"), vec![out_features, in_features]));
                if self.has_bias(module) {
                    tensors.push((format!("{prefix}.{module}.bias"), vec![out_features]));
                }
            }
        }
        tensors.push(("model.norm.weight".to_owned(), vec![self.hidden_size]));
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, self.hidden_size]));
        }
        tensors
    }

    /// Whether this is a decoder of attention and an MLP: what adapters, GGUF and quantized linears are made for.
    #[must_use]
    pub fn has_attention(&self) -> bool {
        self.synapse.is_none()
    }

    /// Whether a layer rotates its queries and keys by their positions.
    #[must_use]
    pub fn is_rotated(&self, layer: usize) -> bool {
        !self.no_rope_layers.contains(&layer)
    }

    /// The seven linear modules of a layer with attention, in the order they are applied, as (name, output width, input width).
    #[must_use]
    pub fn linear_modules(&self) -> [(&'static str, usize, usize); 7] {
        let (hidden, mlp) = (self.hidden_size, self.intermediate_size);
        let query = self.num_attention_heads * self.head_dim;
        let key = self.num_key_value_heads * self.head_dim;
        [
            ("self_attn.q_proj", query, hidden),
            ("self_attn.k_proj", key, hidden),
            ("self_attn.v_proj", key, hidden),
            ("self_attn.o_proj", hidden, query),
            ("mlp.gate_proj", mlp, hidden),
            ("mlp.up_proj", mlp, hidden),
            ("mlp.down_proj", hidden, mlp),
        ]
    }

    /// Weights of the layers' matrices that one token is multiplied with. Of a Synapse model's modules that is the mean
    /// over all choices, since which ones a token is sent to is not known before.
    #[must_use]
    pub fn weights_per_token(&self) -> usize {
        let Some(modules) = &self.synapse else {
            let layer: usize = self
                .linear_modules()
                .iter()
                .map(|(_, rows, columns)| rows * columns)
                .sum();
            return self.num_hidden_layers * layer;
        };
        let layer = |layer: usize| modules.weights_per_token(layer, self.hidden_size);
        (0..self.num_hidden_layers).map(layer).sum()
    }

    /// Every linear module that an adapter can change, as (name, output width, input width), in file order. In a Synapse
    /// model those are the modules called `…_proj`.
    #[must_use]
    pub fn adaptable_modules(&self) -> Vec<(String, usize, usize)> {
        let mut modules = Vec::new();
        for layer in 0..self.num_hidden_layers {
            let prefix = format!("model.layers.{layer}");
            match &self.synapse {
                None => modules.extend(
                    self.linear_modules()
                        .map(|(name, output, input)| (format!("{prefix}.{name}"), output, input)),
                ),
                Some(own) => modules.extend(own.layer_tensors(layer, self.hidden_size).into_iter().filter_map(
                    |(name, shape)| match (name.strip_suffix(".weight"), shape.as_slice()) {
                        (Some(module), &[output, input]) if module.ends_with("_proj") => {
                            Some((format!("{prefix}.{module}"), output, input))
                        }
                        _ => None,
                    },
                )),
            }
        }
        modules
    }

    /// Whether the layer's linear module (a name of [`Self::linear_modules`]) carries a bias.
    #[must_use]
    pub fn has_bias(&self, module: &str) -> bool {
        match module {
            "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj" => self.qkv_bias,
            "self_attn.o_proj" => self.o_bias,
            _ => false,
        }
    }

    /// Number of parameters, a tied head counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors()
            .iter()
            .map(|(_, shape)| shape.iter().map(|&size| size as u64).product::<u64>())
            .sum()
    }
}

fn attention_bias(fields: &Fields<'_>, architecture: Architecture) -> Result<bool> {
    let always = architecture == Architecture::Qwen2;
    let bias = fields.flag("attention_bias", always)?;
    match architecture {
        Architecture::Qwen2 if !bias => Err(fields.error(
            "attention_bias",
            "is false, but Qwen2ForCausalLM always has q/k/v biases",
        )),
        Architecture::Mistral if bias => {
            Err(fields.error("attention_bias", "is true, but MistralForCausalLM has no biases"))
        }
        _ => Ok(bias),
    }
}

/// `None` where there are as many as query heads. Only a Llama's config may leave the field out, because the others'
/// classes have numbers of their own for that case.
fn key_value_heads(fields: &Fields<'_>, architecture: Architecture) -> Result<Option<usize>> {
    if architecture != Architecture::Llama && !fields.is_null("num_key_value_heads") {
        return fields.size("num_key_value_heads").map(Some);
    }
    fields.optional_size("num_key_value_heads")
}

/// A window that is at least as long as the context changes nothing. Source: transformers' `MistralConfig`.
fn refuse_sliding_window(fields: &Fields<'_>, max_position_embeddings: usize) -> Result<()> {
    const DEFAULT: usize = 4096;
    if fields.is_null("sliding_window") {
        return Ok(());
    }
    let window = fields.optional_size("sliding_window")?.unwrap_or(DEFAULT);
    if window >= max_position_embeddings {
        return Ok(());
    }
    Err(fields.error(
        "sliding_window",
        format!(
            "is {window}, shorter than the context of {max_position_embeddings}, and sliding-window attention is not \
             supported; with `max_position_embeddings` set to {window} the window never matters"
        ),
    ))
}

/// The layers without rotary positions: those with a 0 in `no_rope_layers`, else every `no_rope_layer_interval`-th.
/// Source: transformers' `SmolLM3Config`.
fn no_rope_layers(fields: &Fields<'_>, layers: usize) -> Result<Vec<usize>> {
    let Some(flags) = fields.get("no_rope_layers") else {
        let interval = fields.optional_size("no_rope_layer_interval")?.unwrap_or(4);
        return Ok((0..layers)
            .filter(|layer| (layer + 1).is_multiple_of(interval))
            .collect());
    };
    let flags: Option<Vec<u64>> = flags
        .as_array()
        .and_then(|flags| flags.iter().map(Value::as_u64).collect());
    match flags {
        Some(flags) if flags.len() >= layers && flags.iter().all(|&flag| flag <= 1) => {
            Ok((0..layers).filter(|&layer| flags[layer] == 0).collect())
        }
        _ => Err(fields.error(
            "no_rope_layers",
            format!("must hold a 0 or 1 for each of the {layers} layers"),
        )),
    }
}
