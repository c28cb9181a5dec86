//! adapter_config.json as PEFT writes and reads it, field by field: used, without effect on a finished adapter, or refused
//! by name. Fields of newer PEFT versions that are null, false or empty are passed over.
//!
//! What this is not: the tensors. What the file says of modules trained whole, biases and DoRA is only believed where
//! tensors say the same, so those fields are judged with them (`adapter`, and the crate merge).

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ModelConfig;
use crate::error::{CheckpointError, Result};
use crate::module_patterns::{ModuleNames, ModulePatterns, is_within, layer_index};
use crate::output_head::{EMBEDDING, HEAD};

/// The PEFT version whose file format is written.
const PEFT_VERSION: &str = "0.21.2";

/// adapter_config.json of a LoRA adapter.
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
    /// Suffixes such as `q_proj`, full names, or a regular expression. Every adapted module must be among them, because
    /// PEFT passes over tensors of others.
    #[serde(default)]
    pub target_modules: Option<ModuleNames>,
    /// "none", "all" or "lora_only": which of the base's biases were trained. The tensors say which were.
    #[serde(default = "none")]
    pub bias: String,
    /// Whether weights are transposed, as GPT-2's are. PEFT passes over it for the linear modules of the supported
    /// architectures.
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// How A and B were initialized: true, false or "gaussian". Ways that alter the base are refused.
    #[serde(default = "yes")]
    pub init_lora_weights: Value,
    /// Scale by the root of the rank instead of the rank.
    #[serde(default)]
    pub use_rslora: bool,
    /// Weight-decomposed updates, which a merge can take and serving cannot.
    #[serde(default)]
    pub use_dora: bool,
    /// Modules beside the adapted ones that were trained whole, and whose weights are in the folder.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// Whether PEFT adapts a tied head together with the embedding.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ensure_weight_tying: bool,
    /// True in a finished adapter.
    #[serde(default)]
    pub inference_mode: bool,
    /// Ranks of single modules.
    #[serde(default)]
    pub rank_pattern: ModulePatterns<usize>,
    /// Alphas of single modules.
    #[serde(default)]
    pub alpha_pattern: ModulePatterns<f64>,
    /// Layers the adapter is restricted to.
    #[serde(default)]
    pub layers_to_transform: Option<OneOrMany<usize>>,
    /// Name of the layer list, with `layers_to_transform`.
    #[serde(default)]
    pub layers_pattern: Option<OneOrMany<String>>,
    /// Modules left out.
    #[serde(default)]
    pub exclude_modules: Option<ModuleNames>,
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

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A value that PEFT takes alone or in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "`layers_to_transform` takes a number or a list of them, `layers_pattern` a text or a list of them"
)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn all(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// What to do with an adapter that only a merge can take.
pub(crate) const MERGE_IT: &str = "merge it into its base with synapse-merge, and use the result";

/// Fields about an adapter's initialization or execution, which do not change the result of a finished one.
const HARMLESS: [&str; 10] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "parent_library",
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
            target_modules: Some(ModuleNames::List(targets.into_iter().collect())),
            bias: none(),
            fan_in_fan_out: false,
            init_lora_weights: yes(),
            use_rslora: false,
            use_dora: false,
            modules_to_save: None,
            ensure_weight_tying: false,
            inference_mode: true,
            rank_pattern: ModulePatterns::default(),
            alpha_pattern: ModulePatterns::default(),
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

    /// The same for whoever forms dense updates, which takes more than running an adapter does: DoRA and biases of B are let
    /// through.
    ///
    /// # Errors
    /// Same as [`AdapterConfig::from_json`], for everything else that is not supported.
    pub fn from_json_for_merging(text: &str, path: &Path) -> Result<Self> {
        let config = Self::parse(text, path, &["lora_bias"])?;
        let plain = Self {
            use_dora: false,
            ..config.clone()
        };
        plain.check(path)?;
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
            return refuse("use_dora", format!("is true: DoRA is not supported here; {MERGE_IT}"));
        }
        if !["none", "all", "lora_only"].contains(&self.bias.as_str()) {
            return refuse("bias", format!("is `{}`; none, all and lora_only are known", self.bias));
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
        self.check_patterns(path, "")
    }

    /// Refuses a key of a pattern that cannot be matched with a module's name.
    fn check_patterns(&self, path: &Path, module: &str) -> Result<()> {
        let patterns = [
            ("rank_pattern", self.rank_pattern.unreadable(module)),
            ("alpha_pattern", self.alpha_pattern.unreadable(module)),
        ];
        for (field, unreadable) in patterns {
            if let Some((key, why)) = unreadable {
                let message = format!("has the key `{key}`, which is no usable regular expression: {why}");
                return Err(CheckpointError::field(path, field, message));
            }
        }
        Ok(())
    }

    /// Refuses a module that PEFT would not adapt by this configuration: it passes over such a module's tensors, and an
    /// adapter that computes something else here than there helps nobody.
    ///
    /// # Errors
    /// The field that excludes the module, or that holds no regular expression.
    pub fn check_target(&self, path: &Path, module: &str) -> Result<()> {
        self.check_patterns(path, module)?;
        // A tied pair is adapted as one where either is a target.
        let pair = [EMBEDDING, HEAD].map(|tensor| tensor.trim_end_matches(".weight"));
        if self.ensure_weight_tying && pair.contains(&module) {
            let other = if module == pair[0] { pair[1] } else { pair[0] };
            return self
                .check_own_target(path, module)
                .or_else(|error| self.check_own_target(path, other).map_err(|_| error));
        }
        self.check_own_target(path, module)
    }

    fn check_own_target(&self, path: &Path, module: &str) -> Result<()> {
        let unreadable = |field: &'static str| {
            move |why: String| CheckpointError::field(path, field, format!("holds no regular expression: {why}"))
        };
        let excluded = |field: &str, what: String| {
            let message = format!(
                "{what} `{module}`, but the folder holds an adapter for it, which PEFT would not apply; \
                 correct the field or remove the tensors"
            );
            Err(CheckpointError::field(path, field, message))
        };
        if let Some(names) = &self.exclude_modules
            && names.contains(module).map_err(unreadable("exclude_modules"))?
        {
            return excluded("exclude_modules", "leaves out".to_owned());
        }
        for name in self.modules_to_save.iter().flatten() {
            if is_within(name, module).map_err(unreadable("modules_to_save"))? {
                return excluded(
                    "modules_to_save",
                    format!("says that `{name}` is trained whole, and with it"),
                );
            }
        }
        let Some(targets) = &self.target_modules else {
            return Ok(());
        };
        if !targets.contains(module).map_err(unreadable("target_modules"))? {
            return excluded("target_modules", "does not include".to_owned());
        }
        let ModuleNames::List(names) = targets else {
            return Ok(());
        };
        let Some(layers) = self.layers_to_transform.as_ref().map(OneOrMany::all) else {
            return Ok(());
        };
        // An empty list restricts nothing, and neither does any list where the module is named in full.
        if layers.is_empty() || names.iter().any(|name| name == module) {
            return Ok(());
        }
        let any = ["[^.]*".to_owned()];
        let patterns = match self.layers_pattern.as_ref().map(OneOrMany::all) {
            Some(patterns) if patterns.iter().any(|pattern| !pattern.is_empty()) => patterns,
            _ => &any,
        };
        let mut index = None;
        for pattern in patterns {
            index = layer_index(module, pattern).map_err(unreadable("layers_pattern"))?;
            if index.is_some() {
                break;
            }
        }
        if index.is_none_or(|index| !layers.contains(&index)) {
            return excluded("layers_to_transform", format!("is {layers:?}, without"));
        }
        Ok(())
    }

    /// Checks that every module of `base` that `modules_to_save` names has its weights in the folder; `stored` says of a
    /// tensor whether it is there. PEFT cannot load a folder without them.
    ///
    /// # Errors
    /// Names the first tensor that is missing.
    pub fn check_saved(&self, path: &Path, base: &ModelConfig, stored: impl Fn(&str) -> bool) -> Result<()> {
        let mut tensors = base.tensors();
        if base.tie_word_embeddings {
            tensors.push((HEAD.to_owned(), Vec::new()));
        }
        for (tensor, _) in tensors {
            let module = tensor.rsplit_once('.').map_or(tensor.as_str(), |(module, _)| module);
            let named = |name: &String| is_within(name, module).unwrap_or(false);
            if self.modules_to_save.iter().flatten().any(named) && !stored(&tensor) {
                let message =
                    format!("names `{module}`, but the folder does not hold `{tensor}`; save the adapter again");
                return Err(CheckpointError::field(path, "modules_to_save", message));
            }
        }
        Ok(())
    }

    /// The rank of a module, by its full name.
    #[must_use]
    pub fn rank_of(&self, module: &str) -> usize {
        self.rank_pattern.get(module).copied().unwrap_or(self.r)
    }

    /// What B·A is multiplied by for a module of the given rank.
    #[must_use]
    pub fn scale_of(&self, module: &str, rank: usize) -> f32 {
        let alpha = self.alpha_pattern.get(module).copied().unwrap_or(self.lora_alpha);
        let divisor = if self.use_rslora {
            (rank as f64).sqrt()
        } else {
            rank as f64
        };
        (alpha / divisor) as f32
    }

    /// Whether a module is among `modules_to_save`, whose names are ends of module names to PEFT, or lies within one.
    #[must_use]
    pub fn saves(&self, module: &str) -> bool {
        let named = |name: &String| module.ends_with(name.as_str()) || is_within(name, module).unwrap_or(false);
        self.modules_to_save.iter().flatten().any(named)
    }
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
