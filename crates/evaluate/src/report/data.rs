//! The content of a report, as plain data that can be written to JSON and read back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::gate::GateDecision;
use crate::table::ComparisonTable;

/// Everything on the page. Empty lists and `None` omit their section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportData {
    /// The run's name, such as `synapse-3b`.
    pub name: String,
    /// One line under it, such as the base model and when the run was started.
    pub subtitle: String,
    /// During the run: seconds until the page reloads itself, and the current activity.
    pub refresh: Option<(u32, String)>,
    /// Why the run ended early, if it did.
    pub broken: Option<String>,
    /// The command that made the run, as typed.
    pub command: String,
    /// The recipes, verbatim.
    pub recipes: Vec<RecipeText>,
    /// Stages in the order they ran.
    pub stages: Vec<StageTime>,
    /// One curve per training run.
    pub curves: Vec<Curve>,
    /// Base, specialists and merge.
    pub table: Option<ComparisonTable>,
    /// The gate's decision.
    pub gate: Option<GateDecision>,
    /// The same prompts answered by several models.
    pub samples: Vec<Sample>,
    /// Where the merge's inputs disagree.
    pub merge_map: Option<HeatMap>,
    /// The distribution of tokens over modules, one map per training run of a model with routers.
    #[serde(default)]
    pub router_maps: Vec<HeatMap>,
    /// Answers with the routing of each of their tokens.
    #[serde(default)]
    pub traces: Vec<TokenTrace>,
    /// The result of a search of the merge.
    pub search: Option<SearchSummary>,
    /// One entry per source of data.
    pub data: Vec<DataSummary>,
    /// Licenses of base and data.
    #[serde(rename(serialize = "licences"), alias = "licences")]
    pub licenses: Vec<License>,
    /// The run's resources: processor, threads, memory, disk, versions.
    pub resources: Vec<Fact>,
}

/// One recipe file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipeText {
    /// Its path as given.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// One stage of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// Such as `math: train`.
    pub name: String,
    /// Seconds after the run's start.
    pub start: f64,
    /// Seconds it took.
    pub seconds: f64,
    /// Such as `cached`.
    #[serde(default)]
    pub note: String,
}

/// A search's plot and its summary.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchSummary {
    /// One or two sentences.
    pub words: String,
    /// The Pareto front as SVG; shown as an image, so nothing in it runs.
    pub plot: String,
}

/// The curves of one training run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The specialist's name.
    pub name: String,
    /// One point per optimizer step.
    pub points: Vec<CurvePoint>,
    /// Held-out loss, nats per trained token, at some steps.
    #[serde(default)]
    pub held_out: Vec<(u64, f64)>,
}

/// One optimizer step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// From 1.
    pub step: u64,
    /// Nats per target token.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// All tokens of the step per second.
    pub tokens_per_second: f64,
}

/// One prompt with every model's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The domain the prompt is from.
    pub domain: String,
    /// The prompt.
    pub prompt: String,
    /// The reference answer, if there is one.
    pub reference: Option<String>,
    /// The answers, in display order.
    pub answers: Vec<SampleAnswer>,
}

/// One model's answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleAnswer {
    /// The model's name.
    #[serde(rename = "subject")]
    pub model: String,
    /// Its text.
    pub text: String,
    /// Whether it is right, if it was scored.
    pub correct: Option<bool>,
}

impl Sample {
    /// The first `count` items of one suite side by side, from the records of several models on the same items.
    #[must_use]
    pub fn side_by_side(domain: &str, models: &[(&str, &[Map<String, Value>])], count: usize) -> Vec<Self> {
        let Some((_, first)) = models.first() else {
            return Vec::new();
        };
        let text = |record: &Map<String, Value>, key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
        let answered = first.iter().filter(|record| record.contains_key("answer")).take(count);
        answered
            .map(|record| {
                let same = |records: &[Map<String, Value>]| {
                    records
                        .iter()
                        .find(|other| other.get("id") == record.get("id"))
                        .cloned()
                };
                let answers = models.iter().filter_map(|(model, records)| {
                    let found = same(records)?;
                    Some(SampleAnswer {
                        model: (*model).to_owned(),
                        text: text(&found, "answer").unwrap_or_default(),
                        correct: found.get("exact").or(found.get("correct")).and_then(Value::as_bool),
                    })
                });
                Self {
                    domain: domain.to_owned(),
                    prompt: text(record, "question").unwrap_or_default(),
                    reference: text(record, "reference").or_else(|| text(record, "label")),
                    answers: answers.collect(),
                }
            })
            .collect()
    }
}

/// A matrix of values with named rows and columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeatMap {
    /// Such as `Sign conflicts`.
    pub title: String,
    /// The meaning of a value, in one sentence.
    pub explanation: String,
    /// Names of the rows, such as layers.
    pub rows: Vec<String>,
    /// Names of the columns, such as modules.
    pub columns: Vec<String>,
    /// `values[row][column]`; NaN (null in JSON) for a missing value.
    #[serde(with = "holes")]
    pub values: Vec<Vec<f64>>,
}

impl HeatMap {
    /// Layers × modules from values of tensors named as in a checkpoint (`model.layers.3.mlp.up_proj.weight`), in the
    /// order in which the modules first occur; tensors outside layers are skipped.
    #[must_use]
    pub fn of_layers<'a>(title: &str, explanation: &str, tensors: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let mut found: Vec<(usize, String, f64)> = Vec::new();
        let mut columns: Vec<String> = Vec::new();
        for (name, value) in tensors {
            let Some((layer, module)) = name.split_once("layers.").and_then(|(_, rest)| rest.split_once('.')) else {
                continue;
            };
            let Ok(layer) = layer.parse::<usize>() else {
                continue;
            };
            let module = module.strip_suffix(".weight").unwrap_or(module);
            if !columns.iter().any(|column| column == module) {
                columns.push(module.to_owned());
            }
            found.push((layer, module.to_owned(), value));
        }
        let layers = found.iter().map(|(layer, ..)| layer + 1).max().unwrap_or(0);
        let mut values = vec![vec![f64::NAN; columns.len()]; layers];
        for (layer, module, value) in found {
            if let Some(column) = columns.iter().position(|column| *column == module) {
                values[layer][column] = value;
            }
        }
        let rows = (0..layers).map(|layer| layer.to_string()).collect();
        Self {
            title: title.to_owned(),
            explanation: explanation.to_owned(),
            rows,
            columns,
            values,
        }
    }
}

/// An answer with the module weights of each of its tokens, as means over the layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenTrace {
    /// The domain the prompt is from.
    pub domain: String,
    /// The model's name.
    #[serde(rename = "subject")]
    pub model: String,
    /// The prompt.
    pub prompt: String,
    /// The answer, token by token.
    pub tokens: Vec<String>,
    /// The modules that the router chooses from.
    pub modules: Vec<String>,
    /// `weights[token][module]`: the router's weight; a token's weights sum to 1.
    pub weights: Vec<Vec<f64>>,
    /// The memory's mean write strength at each token, from 0 to 1.
    pub memory_writes: Vec<f64>,
    /// The norm of the memory's output at each token.
    pub memory_reads: Vec<f64>,
}

/// JSON has no NaN; a missing value is null.
mod holes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[Vec<f64>], serializer: S) -> Result<S::Ok, S::Error> {
        let rows = values.iter().map(|row| {
            row.iter()
                .map(|value| value.is_finite().then_some(*value))
                .collect::<Vec<_>>()
        });
        rows.collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<f64>>, D::Error> {
        let rows = Vec::<Vec<Option<f64>>>::deserialize(deserializer)?;
        Ok(rows
            .into_iter()
            .map(|row| row.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
            .collect())
    }
}

/// One source of data, as its manifest has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataSummary {
    /// The domain it trains.
    pub domain: String,
    /// Hub id, file or generator.
    pub source: String,
    /// Revision, possibly shortened.
    pub revision: String,
    /// Rows read.
    pub read: u64,
    /// Rows trained on.
    pub kept: u64,
    /// Rows held out.
    pub held_out: u64,
    /// Target tokens.
    pub trained_tokens: u64,
    /// Documents by length: bins of equal width up to a row's length; the last bin counts longer documents.
    pub lengths: Vec<u64>,
    /// Maximum number of tokens of a row.
    pub longest_row: u64,
    /// Tokens lost because documents are too long.
    pub tokens_lost: u64,
    /// The license.
    #[serde(rename(serialize = "licence"), alias = "licence")]
    pub license: String,
    /// The dropped rows and the reasons.
    pub note: String,
}

/// One license.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    /// What it covers.
    pub covers: String,
    /// Its name.
    #[serde(rename(serialize = "licence"), alias = "licence")]
    pub license: String,
    /// Such as `non-commercial`.
    #[serde(default)]
    pub note: String,
}

/// One fact with its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Such as `peak memory`.
    pub name: String,
    /// Such as `2.4 GiB`.
    pub value: String,
}
