//! adapter_config.json as PEFT writes and reads it. Settings that change the arithmetic and are not implemented (DoRA,
//! trained biases, extra saved modules, replaced base weights …) are refused by name when a folder is opened. Fields
//! of newer PEFT versions that are null, false or empty are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::{CheckpointError, Result};

/// The PEFT version whose file format is written.
const PEFT_VERSION: &str = "0.21.2";

/// adapter_config.json of a LoRA adapter. Serialized with sorted suffixes as `target_modules`, whatever was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AdapterConfig {
    /// Always "LORA".
    pub peft_type: String,
    /// "CAUSAL_LM".
    #[serde(default)]
    pub task_type: Option<String>,
    /// Hub id or folder of the base.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// The base's commit.
    #[serde(default)]
    pub revision: Option<String>,
    /// Rank of every module that `rank_pattern` does not name.
    pub r: usize,
    /// Scale times rank (times its root with `use_rslora`) of every module that `alpha_pattern` does not name.
    pub lora_alpha: f64,
    /// Dropout on the input of A in training.
    #[serde(default)]
    pub lora_dropout: f64,
    /// Sorted suffixes such as `q_proj`. PEFT's full module names are shortened to suffixes on reading.
    #[serde(default, deserialize_with = "suffixes")]
    pub target_modules: Vec<String>,
    /// "none": trained biases are not supported.
    #[serde(default = "none")]
    pub bias: String,
    /// False: transposed weights (GPT-2) are not supported.
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// How A and B were initialized: true, false or "gaussian". Ways that alter the base are refused.
    #[serde(default = "yes")]
    pub init_lora_weights: Value,
    /// Scale by the root of the rank instead of the rank.
    #[serde(default)]
    pub use_rslora: bool,
    /// False: DoRA is not supported.
    #[serde(default)]
    pub use_dora: bool,
    /// None: modules trained whole are not supported.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// True in a finished adapter.
    #[serde(default)]
    pub inference_mode: bool,
    /// Ranks of single modules, by name or suffix.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas of single modules, by name or suffix.
    #[serde(default, deserialize_with = "null_is_default")]
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Layers the adapter was restricted to; the tensors say the same.
    #[serde(default)]
    pub layers_to_transform: Option<Value>,
    /// Name of the layer list, with `layers_to_transform`.
    #[serde(default)]
    pub layers_pattern: Option<Value>,
    /// Modules left out; the tensors say the same.
    #[serde(default)]
    pub exclude_modules: Option<Value>,
    /// Version of PEFT that wrote the file.
    #[serde(default)]
    pub peft_version: String,
}

fn none() -> String {
    "none".to_owned()
}

fn yes() -> Value {
    Value::Bool(true)
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list of suffixes or full names, or one word (`all-linear`, or a pattern that PEFT matches whole names with).
fn suffixes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Word(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Written::Word(word)) => vec![word],
        Some(Written::List(names)) => {
            let suffixes: BTreeSet<String> = names
                .into_iter()
                .map(|name| name.rsplit('.').next().unwrap_or_default().to_owned())
                .collect();
            suffixes.into_iter().collect()
        }
    })
}

/// Fields about an adapter's initialization or execution, which do not change its result.
const HARMLESS: [&str; 5] = [
    "auto_mapping",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "runtime_config",
];

impl AdapterConfig {
    /// A plain LoRA configuration of a finished adapter, as PEFT would write it; set further fields afterwards.
    #[must_use]
    pub fn lora(base_model: &str, rank: usize, alpha: f64, targets: &[String]) -> Self {
        let targets: BTreeSet<String> = targets.iter().cloned().collect();
        Self {
            peft_type: "LORA".to_owned(),
            task_type: Some("CAUSAL_LM".to_owned()),
            base_model_name_or_path: Some(base_model.to_owned()),
            revision: None,
            r: rank,
            lora_alpha: alpha,
            lora_dropout: 0.0,
            target_modules: targets.into_iter().collect(),
            bias: none(),
            fan_in_fan_out: false,
            init_lora_weights: yes(),
            use_rslora: false,
            use_dora: false,
            modules_to_save: None,
            inference_mode: true,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            layers_to_transform: None,
            layers_pattern: None,
            exclude_modules: None,
            peft_version: PEFT_VERSION.to_owned(),
        }
    }

    /// Parses and checks the text of an adapter_config.json; `path` is only named in messages.
    ///
    /// # Errors
    /// The text is not JSON, lacks a field, or asks for something that is not supported; the message names the field.
    pub fn from_json(text: &str, path: &Path) -> Result<Self> {
        let config = Self::parse(text, path, &[])?;
        config.check(path)?;
        Ok(config)
    }

    /// The same for whoever forms dense updates, which takes more than running an adapter does: DoRA, trained biases and
    /// modules trained whole are let through, because the tensors say what they are.
    ///
    /// # Errors
    /// Same as [`AdapterConfig::from_json`], for everything else that is not supported.
    pub fn from_json_for_merging(text: &str, path: &Path) -> Result<Self> {
        let config = Self::parse(text, path, &["lora_bias"])?;
        let plain = Self {
            use_dora: false,
            bias: none(),
            modules_to_save: None,
            ..config.clone()
        };
        plain.check(path)?;
        if !["none", "all", "lora_only"].contains(&config.bias.as_str()) {
            let message = format!("is `{}`; none, all and lora_only are known", config.bias);
            return Err(CheckpointError::field(path, "bias", message));
        }
        Ok(config)
    }

    fn parse(text: &str, path: &Path, allowed: &[&str]) -> Result<Self> {
        let root: Value = serde_json::from_str(text).map_err(CheckpointError::json(path))?;
        let config: Self = serde_json::from_value(root.clone()).map_err(CheckpointError::json(path))?;
        let known = serde_json::to_value(&config).map_err(CheckpointError::json(path))?;
        for (field, value) in root.as_object().into_iter().flatten() {
            let passed_over = HARMLESS.contains(&field.as_str()) || allowed.contains(&field.as_str());
            if known.get(field).is_none() && !is_off(value) && !passed_over {
                return Err(CheckpointError::field(
                    path,
                    field,
                    format!("is {value}, which is not supported: the adapter would compute something else without it"),
                ));
            }
        }
        Ok(config)
    }

    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let refuse = |field: &str, message: String| Err(CheckpointError::field(path, field, message));
        if self.peft_type != "LORA" {
            return refuse("peft_type", format!("is `{}`; only LORA is supported", self.peft_type));
        }
        if self.r == 0 {
            return refuse("r", "is 0; a rank is at least 1".to_owned());
        }
        if !self.lora_alpha.is_finite() {
            return refuse("lora_alpha", format!("is {}, not a number", self.lora_alpha));
        }
        if self.use_dora {
            return refuse("use_dora", "is true: DoRA is not supported".to_owned());
        }
        if self.fan_in_fan_out {
            return refuse(
                "fan_in_fan_out",
                "is true: transposed weights are not supported".to_owned(),
            );
        }
        if self.bias != "none" {
            return refuse("bias", format!("is `{}`: trained biases are not supported", self.bias));
        }
        if let Some(modules) = self.modules_to_save.as_ref().filter(|modules| !modules.is_empty()) {
            return refuse(
                "modules_to_save",
                format!("is {modules:?}: modules trained whole are not supported"),
            );
        }
        let starts = ["gaussian", "eva", "orthogonal", "mica"];
        if !self.init_lora_weights.is_boolean()
            && !self.init_lora_weights.is_null()
            && !self
                .init_lora_weights
                .as_str()
                .is_some_and(|start| starts.contains(&start))
        {
            return refuse(
                "init_lora_weights",
                format!(
                    "is {}: such adapters belong to an altered base; save them with PEFT's `path_initial_model_for_weight_conversion`",
                    self.init_lora_weights
                ),
            );
        }
        for (field, pattern) in self
            .rank_pattern
            .keys()
            .map(|key| ("rank_pattern", key))
            .chain(self.alpha_pattern.keys().map(|key| ("alpha_pattern", key)))
        {
            if literal(pattern).contains(|character: char| !(character.is_alphanumeric() || "._-".contains(character)))
            {
                return refuse(
                    field,
                    format!("has the key `{pattern}`; only module names and suffixes are supported, not patterns"),
                );
            }
        }
        Ok(())
    }

    /// The rank of a module, by its full name.
    #[must_use]
    pub fn rank_of(&self, module: &str) -> usize {
        of_module(&self.rank_pattern, module).copied().unwrap_or(self.r)
    }

    /// What B·A is multiplied by for a module of the given rank.
    #[must_use]
    pub fn scale_of(&self, module: &str, rank: usize) -> f32 {
        let alpha = of_module(&self.alpha_pattern, module)
            .copied()
            .unwrap_or(self.lora_alpha);
        let divisor = if self.use_rslora {
            (rank as f64).sqrt()
        } else {
            rank as f64
        };
        (alpha / divisor) as f32
    }
}

/// PEFT's rule: the first key that is the module's name or the end of it after a dot; `^` allows the whole name only.
fn of_module<'a, T>(patterns: &'a BTreeMap<String, T>, module: &str) -> Option<&'a T> {
    let matches = |pattern: &str| {
        let name = literal(pattern);
        module == name
            || (!pattern.starts_with('^') && module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
    };
    patterns
        .iter()
        .find(|(pattern, _)| matches(pattern))
        .map(|(_, value)| value)
}

fn literal(pattern: &str) -> &str {
    pattern.strip_prefix('^').unwrap_or(pattern)
}

/// Null, false, and empty lists and objects: an option that is not in use.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
