//! Typed access to the fields of a config.json, with errors that name file and field. Private to the configuration:
//! which fields matter is decided there, this file says how one is read and which settings are refused.

use std::path::Path;

use serde_json::{Map, Value};

use crate::config::{Architecture, Llama3RopeScaling};
use crate::error::{CheckpointError, Result};

/// No supported model comes near this in any one dimension; it keeps products of two sizes inside 64 bits.
const LARGEST_SIZE: u64 = 1 << 28;
/// Deeper "models" are damaged files; without a limit they would only exhaust memory.
const MOST_LAYERS: u64 = 10_000;

/// The fields of one config.json.
pub(crate) struct Fields<'a> {
    root: &'a Map<String, Value>,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(root: &'a Map<String, Value>, path: &'a Path) -> Self {
        Self { root, path }
    }

    pub(crate) fn error(&self, field: &str, message: impl Into<String>) -> CheckpointError {
        CheckpointError::field(self.path, field, message)
    }

    /// The field's value; an explicit null counts as absent, as it does in transformers.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.root.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn architecture(&self) -> Result<Architecture> {
        let known = Architecture::ALL;
        let named = match self.get("architectures") {
            Some(Value::Array(names)) if names.len() == 1 => names[0].as_str().map(|name| ("architectures", name)),
            Some(other) => {
                return Err(self.error("architectures", format!("must list one class name, found {other}")));
            }
            None => None,
        };
        let model_type = self.get("model_type").and_then(Value::as_str);
        let by_type =
            model_type.and_then(|name| known.into_iter().find(|architecture| architecture.model_type() == name));
        let architecture = match named {
            Some((field, name)) => known
                .into_iter()
                .find(|architecture| architecture.class_name() == name)
                .ok_or_else(|| {
                    self.error(
                        field,
                        format!("is `{name}`, which is not supported; supported: LlamaForCausalLM, Qwen2ForCausalLM, SynapseForCausalLM"),
                    )
                })?,
            None => by_type.ok_or_else(|| {
                self.error(
                    "architectures",
                    format!(
                        "is missing and `model_type` is {}; supported: LlamaForCausalLM, Qwen2ForCausalLM, SynapseForCausalLM",
                        model_type.unwrap_or("missing too")
                    ),
                )
            })?,
        };
        match model_type {
            Some(name) if name != architecture.model_type() => Err(self.error(
                "model_type",
                format!("is `{name}`, but `architectures` says {}", architecture.class_name()),
            )),
            _ => Ok(architecture),
        }
    }

    /// Refuses a field that is not among these.
    pub(crate) fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        match self.root.keys().find(|field| !known.contains(&field.as_str())) {
            Some(field) => Err(self.error(
                field,
                format!("is no field of this architecture; there are {}", known.join(", ")),
            )),
            None => Ok(()),
        }
    }

    /// Settings that would silently give wrong numbers.
    pub(crate) fn refuse_unsupported(&self) -> Result<()> {
        match self.get("hidden_act").map(|value| value.as_str().unwrap_or_default()) {
            None | Some("silu" | "swish") => {}
            Some(_) => return Err(self.unsupported("hidden_act", "only `silu` is supported")),
        }
        if self.flag("use_sliding_window", false)? {
            return Err(self.unsupported("use_sliding_window", "sliding-window attention is not supported"));
        }
        if let Some(layers) = self.get("layer_types") {
            let full = layers
                .as_array()
                .is_some_and(|layers| layers.iter().all(|layer| layer == "full_attention"));
            if !full {
                return Err(self.error(
                    "layer_types",
                    "lists more than `full_attention`, and only full attention is supported",
                ));
            }
        }
        if self.flag("mlp_bias", false)? {
            return Err(self.unsupported("mlp_bias", "biases in the MLP are not supported"));
        }
        if self
            .get("attention_dropout")
            .is_some_and(|value| value.as_f64() != Some(0.0))
        {
            return Err(self.unsupported("attention_dropout", "only 0 is supported"));
        }
        if self
            .get("partial_rotary_factor")
            .is_some_and(|value| value.as_f64() != Some(1.0))
        {
            return Err(self.unsupported("partial_rotary_factor", "only 1 is supported"));
        }
        if let Some(quantization) = self.get("quantization_config") {
            let method = quantization
                .get("quant_method")
                .and_then(Value::as_str)
                .unwrap_or("unknown");
            return Err(self.error(
                "quantization_config",
                format!("says the weights are quantized ({method}); take the unquantized model, quantization happens on load"),
            ));
        }
        Ok(())
    }

    fn unsupported(&self, field: &str, why: &str) -> CheckpointError {
        let value = self.get(field).cloned().unwrap_or(Value::Null);
        self.error(field, format!("is {value}: {why}"))
    }

    pub(crate) fn optional_size(&self, field: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let most = if field == "num_hidden_layers" {
            MOST_LAYERS
        } else {
            LARGEST_SIZE
        };
        match value.as_u64() {
            Some(size) if (1..=most).contains(&size) => Ok(usize::try_from(size).ok()),
            _ => Err(self.error(field, format!("must be a whole number from 1 to {most}, found {value}"))),
        }
    }

    pub(crate) fn size(&self, field: &str) -> Result<usize> {
        self.optional_size(field)?
            .ok_or_else(|| self.error(field, "is missing"))
    }

    pub(crate) fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.get(field) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.error(field, format!("must be true or false, found {other}"))),
        }
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<String>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.error(field, format!("must be a word, found {other}"))),
        }
    }

    /// A whole number that may be 0.
    pub(crate) fn count(&self, field: &str, default: usize) -> Result<usize> {
        match self.get(field) {
            Some(value) if value.as_u64() == Some(0) => Ok(0),
            _ => Ok(self.optional_size(field)?.unwrap_or(default)),
        }
    }

    pub(crate) fn not_negative(&self, field: &str, default: f64) -> Result<f64> {
        match self.get(field) {
            Some(value) if value.as_f64() == Some(0.0) => Ok(0.0),
            _ => self.positive(field, default),
        }
    }

    pub(crate) fn positive(&self, field: &str, default: f64) -> Result<f64> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => self.positive_number(field, value),
        }
    }

    fn positive_number(&self, field: &str, value: &Value) -> Result<f64> {
        match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(number),
            _ => Err(self.error(field, format!("must be a number above 0, found {value}"))),
        }
    }

    pub(crate) fn token_ids(&self, field: &str) -> Result<Vec<u32>> {
        let wrong = |value: &Value| self.error(field, format!("must be a token id or a list of them, found {value}"));
        let id = |value: &Value| {
            value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| wrong(value))
        };
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(id).collect(),
            Some(value) => Ok(vec![id(value)?]),
        }
    }

    pub(crate) fn first_token_id(&self, field: &str) -> Result<Option<u32>> {
        Ok(self.token_ids(field)?.first().copied())
    }

    /// Rotary base and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (before).
    pub(crate) fn rope(&self) -> Result<(f64, Option<Llama3RopeScaling>)> {
        let parameters = self.object("rope_parameters")?;
        let inner = match parameters.and_then(|parameters| parameters.get("rope_theta")) {
            Some(value) => Some(self.positive_number("rope_parameters.rope_theta", value)?),
            None => None,
        };
        let outer = self
            .get("rope_theta")
            .map(|value| self.positive_number("rope_theta", value))
            .transpose()?;
        if let (Some(inner), Some(outer)) = (inner, outer)
            && inner != outer
        {
            return Err(self.error(
                "rope_theta",
                format!("is {outer}, but `rope_parameters.rope_theta` is {inner}"),
            ));
        }
        let scaling = match (parameters, self.object("rope_scaling")?) {
            (Some(parameters), None) => self.rope_scaling("rope_parameters", parameters)?,
            (None, Some(scaling)) => self.rope_scaling("rope_scaling", scaling)?,
            (None, None) => None,
            (Some(parameters), Some(scaling)) => {
                let (new, old) = (
                    self.rope_scaling("rope_parameters", parameters)?,
                    self.rope_scaling("rope_scaling", scaling)?,
                );
                if new != old {
                    return Err(self.error("rope_scaling", "disagrees with `rope_parameters`; remove one of them"));
                }
                new
            }
        };
        Ok((inner.or(outer).unwrap_or(10_000.0), scaling))
    }

    fn object(&self, field: &str) -> Result<Option<&'a Map<String, Value>>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(self.error(field, format!("must be an object, found {other}"))),
        }
    }

    fn rope_scaling(&self, field: &str, object: &Map<String, Value>) -> Result<Option<Llama3RopeScaling>> {
        if object
            .get("partial_rotary_factor")
            .is_some_and(|value| value.as_f64() != Some(1.0))
        {
            return Err(self.error(
                &format!("{field}.partial_rotary_factor"),
                "is not 1, and only full rotation is supported",
            ));
        }
        let kind = object
            .get("rope_type")
            .or_else(|| object.get("type"))
            .and_then(Value::as_str)
            .unwrap_or("default");
        let number = |key: &str| match object.get(key) {
            Some(value) => self.positive_number(&format!("{field}.{key}"), value),
            None => Err(self.error(&format!("{field}.{key}"), "is missing")),
        };
        match kind {
            "default" => Ok(None),
            "llama3" => {
                let original = number("original_max_position_embeddings")?;
                if original.fract() != 0.0 || original > LARGEST_SIZE as f64 {
                    return Err(self.error(
                        &format!("{field}.original_max_position_embeddings"),
                        format!("must be a number of tokens, found {original}"),
                    ));
                }
                let scaling = Llama3RopeScaling {
                    factor: number("factor")?,
                    low_freq_factor: number("low_freq_factor")?,
                    high_freq_factor: number("high_freq_factor")?,
                    original_max_position_embeddings: original as usize,
                };
                if scaling.high_freq_factor <= scaling.low_freq_factor {
                    return Err(self.error(&format!("{field}.high_freq_factor"), "must be above `low_freq_factor`"));
                }
                Ok(Some(scaling))
            }
            other => Err(self.error(
                &format!("{field}.rope_type"),
                format!("is `{other}`, which is not supported; supported: default, llama3"),
            )),
        }
    }
}
