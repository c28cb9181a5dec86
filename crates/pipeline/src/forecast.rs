//! `plan`: what a recipe or pipeline would do, without doing it.
//!
//! Steps and tokens are exact where the data is already prepared, else upper bounds from the plan; memory
//! is the sum of what the trainer allocates. Time is not guessed before a kernel was measured.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use synapse_checkpoint::ModelConfig;
use synapse_data::Manifest;
use synapse_recipe::{Base, Document, Method, Quantization, Samples, SpecialistPlan, Stage};
use synapse_trainer::Steps;

use crate::{PipelineError, specialist::data_folder};

/// A forecast of one file.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The file's name for itself.
    pub name: String,
    /// Where it publishes.
    pub output: String,
    /// One entry a recipe.
    pub recipes: Vec<RecipeForecast>,
}

/// A forecast of one recipe.
#[derive(Debug, Clone, Serialize)]
pub struct RecipeForecast {
    /// The recipe's name.
    pub name: String,
    /// The base.
    pub base: String,
    /// Stages whose record exists.
    pub recorded: Vec<&'static str>,
    /// Training rows: exact once prepared, else what the sources are asked for; `None` if a source is taken whole.
    pub rows: Option<u64>,
    /// Whether `rows` was counted in prepared data.
    pub exact: bool,
    /// Optimiser steps for those rows.
    pub steps: Option<u64>,
    /// Tokens of one pass, once prepared.
    pub tokens: Option<u64>,
    /// Memory by component, where the base's configuration is on this disk.
    pub memory: Option<Memory>,
    /// Sources with their licences.
    pub sources: Vec<(String, Option<String>)>,
}

/// Bytes by component at the peak of training.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// Frozen weights.
    pub weights: u64,
    /// Trainable parameters, gradients and both moments.
    pub trainable: u64,
    /// Activations of one micro-batch.
    pub activations: u64,
    /// Logits of one chunk.
    pub logits: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.trainable + self.activations + self.logits
    }

    fn new(plan: &SpecialistPlan, config: &ModelConfig) -> Self {
        let (hidden, mlp, layers) = (
            config.hidden_size as u64,
            config.intermediate_size as u64,
            config.num_hidden_layers as u64,
        );
        let (q, k) = (
            (config.num_attention_heads * config.head_dim) as u64,
            (config.num_key_value_heads * config.head_dim) as u64,
        );
        let linear: u64 = config
            .linear_modules()
            .iter()
            .map(|(_, output, input)| (output * input) as u64)
            .sum::<u64>()
            * layers;
        let rest = config.parameters() - linear;
        let (weights, trainable, rank) = match &plan.method {
            Method::Full => (0, config.parameters() * 16, 0),
            Method::Lora(lora) => {
                let wanted = config
                    .linear_modules()
                    .into_iter()
                    .filter(|(module, _, _)| lora.targets.iter().any(|target| module.ends_with(target.as_str())));
                let adapted: u64 = wanted
                    .map(|(_, output, input)| ((output + input) * lora.rank) as u64)
                    .sum::<u64>()
                    * layers;
                let per_weight = match plan.quantization {
                    Quantization::None => linear * 2,
                    Quantization::Nf4 { .. } => linear / 2 + linear / 16,
                };
                (per_weight + rest * 2, adapted * 16, lora.rank as u64)
            }
        };
        let tokens = (plan.train.batch_size * plan.train.max_seq_len) as u64;
        // what one layer keeps for its backward pass, in f32
        let state = 4 * tokens * (4 * hidden + 3 * q + 2 * k + 3 * mlp + 7 * rank);
        let activations = if plan.train.recompute {
            4 * tokens * hidden * layers + 2 * state
        } else {
            state * layers + 4 * tokens * hidden * layers
        };
        Self {
            weights,
            trainable,
            activations,
            logits: 4 * 128 * 49_152,
        }
    }
}

impl Forecast {
    /// Looks at what is on disk and forecasts the rest.
    ///
    /// # Errors
    /// A configuration or manifest that is there but cannot be read.
    pub fn new(document: &Document) -> Result<Self, PipelineError> {
        let plans = match document {
            Document::Specialist(plan) => vec![plan],
            Document::Pipeline(plan) => plan.specialists.iter().collect(),
        };
        let recipes = plans.into_iter().map(RecipeForecast::new).collect::<Result<_, _>>()?;
        Ok(Self {
            name: document.name().to_owned(),
            output: document.output().display().to_string(),
            recipes,
        })
    }
}

impl RecipeForecast {
    fn new(plan: &SpecialistPlan) -> Result<Self, PipelineError> {
        let manifest_path = data_folder(plan).join("manifest.json");
        let manifest = if manifest_path.is_file() {
            Some(Manifest::read(&manifest_path)?)
        } else {
            None
        };
        let asked = plan.data.total.or_else(|| {
            plan.data
                .sources
                .iter()
                .map(|source| match source.samples {
                    Samples::Count(count) => Some(count),
                    Samples::All | Samples::Rest => None,
                })
                .sum()
        });
        let rows = manifest.as_ref().map(|manifest| manifest.train.rows).or(asked);
        let recorded = Stage::ALL.iter().filter(|stage| {
            plan.run_dir
                .join("stages")
                .join(format!("{}.json", stage.id()))
                .is_file()
        });
        let config = match &plan.base {
            Base::Folder(folder) | Base::Fresh(folder) => Some(ModelConfig::read(folder)?),
            Base::Hub { .. } | Base::Gguf(_) => recorded_base(&plan.run_dir)
                .map(|folder| ModelConfig::read(&folder))
                .transpose()?,
        };
        Ok(Self {
            name: plan.name.clone(),
            base: plan.base.to_string(),
            recorded: recorded.map(|stage| stage.id()).collect(),
            rows,
            exact: manifest.is_some(),
            steps: rows.map(|rows| Steps::new(&plan.train, rows as usize).total),
            tokens: manifest.as_ref().map(|manifest| manifest.train.tokens),
            memory: config.map(|config| Memory::new(plan, &config)),
            sources: plan
                .data
                .sources
                .iter()
                .map(|source| (source.dataset.clone(), source.licence.clone()))
                .collect(),
        })
    }
}

/// Where an earlier fetch put the base.
fn recorded_base(run: &Path) -> Option<std::path::PathBuf> {
    let record = crate::record::read::<crate::Fetched>(run, Stage::Fetch).ok()??;
    Some(record.result.base.folder)
}

impl fmt::Display for Forecast {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} → {}", self.name, self.output)?;
        for recipe in &self.recipes {
            writeln!(out, "\n{} on {}", recipe.name, recipe.base)?;
            let number = |value: Option<u64>| {
                value.map_or_else(
                    || "not known before the data is there".to_owned(),
                    |value| value.to_string(),
                )
            };
            let how = if recipe.exact {
                ""
            } else if recipe.rows.is_some() {
                " at most"
            } else {
                ""
            };
            writeln!(out, "  rows    {}{how}", number(recipe.rows))?;
            writeln!(out, "  steps   {}{how}", number(recipe.steps))?;
            if let Some(tokens) = recipe.tokens {
                writeln!(out, "  tokens  {tokens} a pass")?;
            }
            match &recipe.memory {
                None => writeln!(out, "  memory  known once the base is fetched (`data fetch`)")?,
                Some(memory) => {
                    let mib = |bytes: u64| bytes / (1 << 20);
                    writeln!(
                        out,
                        "  memory  {} MiB: weights {}, trainable {}, activations {}, logits {}",
                        mib(memory.total()),
                        mib(memory.weights),
                        mib(memory.trainable),
                        mib(memory.activations),
                        mib(memory.logits)
                    )?;
                }
            }
            for (dataset, licence) in &recipe.sources {
                let licence = licence.as_deref().unwrap_or("no licence stated");
                let remark = if synapse_data::is_non_commercial(licence) {
                    " (not for commercial use)"
                } else {
                    ""
                };
                writeln!(out, "  data    {dataset}: {licence}{remark}")?;
            }
            if !recipe.recorded.is_empty() {
                writeln!(out, "  done    {}", recipe.recorded.join(", "))?;
            }
        }
        Ok(())
    }
}
