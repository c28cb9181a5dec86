//! Typed access to the fields of a config.json, with errors that name file and field.
//!
//! What this is not: the list of fields. `config`, `architecture`, `rope_scaling` and `synapse` each read the fields of
//! their subject through it.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{CheckpointError, Result};

/// No supported model comes near this in any one dimension; it keeps products of two sizes inside 64 bits.
pub(crate) const LARGEST_SIZE: u64 = 1 << 28;
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
    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.root.get(field).filter(|value| !value.is_null())
    }

    /// Whether the field is there and null.
    pub(crate) fn is_null(&self, field: &str) -> bool {
        self.root.get(field).is_some_and(Value::is_null)
    }

    /// Refuses a field that is not among these.
    pub(crate) fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        match self.root.keys().find(|field| !known.contains(&field.as_str())) {
            Some(field) => Err(self.error(
                field,
                format!(
                    "is not a field of this architecture; its fields are {}",
                    known.join(", ")
                ),
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

    /// `value`, which was found at `field`, as a number above 0.
    pub(crate) fn positive_number(&self, field: &str, value: &Value) -> Result<f64> {
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

    /// The value of a field that must be an object, if there is one.
    pub(crate) fn object(&self, field: &str) -> Result<Option<&'a Map<String, Value>>> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(self.error(field, format!("must be an object, found {other}"))),
        }
    }
}
