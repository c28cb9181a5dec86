//! The data of a model card, which the caller fills in from plans, manifests and measurements. An empty list or `None`
//! leaves its part of the card out.

use serde::{Deserialize, Serialize};

/// Everything a card says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CardData {
    /// The kind of artifact.
    pub kind: CardKind,
    /// The model's name, its title.
    pub name: String,
    /// The output folder, as the commands in the card name it: `outputs/synapse-3b`.
    pub location: String,
    /// A sentence or two by the author.
    pub summary: String,
    /// The model it was made from.
    pub base: CardInput,
    /// Number of parameters.
    pub parameters: Option<u64>,
    /// Longest context in tokens.
    pub context_length: Option<u64>,
    /// Type of the stored weights: "bf16".
    pub dtype: Option<String>,
    /// The trained specialists.
    pub specialists: Vec<CardSpecialist>,
    /// The datasets of their training.
    pub datasets: Vec<CardDataset>,
    /// How they were merged.
    pub merge: Option<CardMerge>,
    /// The gate's verdict on the merge.
    pub gate: Option<CardGate>,
    /// Held-out loss in nats per target token, one entry per domain; "gain kept" is computed from it.
    pub held_out_loss: Vec<CardComparison>,
    /// Task scores, where more is better.
    pub scores: Vec<CardScore>,
    /// Names of the GGUF files in the model folder.
    pub gguf_files: Vec<String>,
    /// Further sentences, one per line: limits, warnings of the run.
    pub notes: Vec<String>,
    /// This program's version.
    pub tool_version: String,
}

/// What kind of artifact the card describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CardKind {
    /// A model folder with specialists merged into it.
    #[default]
    Merge,
    /// A PEFT folder.
    Adapter,
    /// A model folder whose parameters were all trained.
    Tuned,
}

/// A model or dataset that went in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardInput {
    /// Hub id, or a local path or name.
    pub id: String,
    /// Not from the hub: a file or folder at hand, or generated. Gets no link and no place in the front matter.
    pub local: bool,
    /// Commit of the hub repository.
    pub revision: Option<String>,
    /// License identifier as the hub spells it; `None` if none is stated.
    #[serde(rename(serialize = "licence"), alias = "licence")]
    pub license: Option<String>,
}

/// A dataset and how much of it was used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardDataset {
    /// Which data.
    pub source: CardInput,
    /// Which specialist was trained on it.
    pub specialist: String,
    /// Rows that training saw.
    pub rows: u64,
}

/// One trained specialist.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CardSpecialist {
    /// Its name: "math".
    pub name: String,
    /// How it was trained, in words: "QLoRA, rank 64, alpha 128, NF4 double-quantized".
    pub method: String,
    /// Rows it was trained on.
    pub rows: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// SHA-256 of the adapter's content.
    pub hash: Option<String>,
}

/// Merge settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CardMerge {
    /// "ties", "linear" or "task_arithmetic".
    pub method: String,
    /// Share of each tensor's changes set to zero, smallest first; `None` for methods that do not trim.
    pub trim: Option<f64>,
    /// "frequency" or "total"; `None` for methods without a vote.
    pub sign: Option<String>,
    /// Factor on the merged change.
    pub lambda: f64,
    /// Weight of each specialist, in order.
    pub weights: Vec<(String, f64)>,
}

/// The gate's threshold and verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CardGate {
    /// How much worse than the base any domain may be.
    pub max_regress: f64,
    /// The measure: "held-out loss".
    pub on: String,
    /// Whether every domain held.
    pub passed: bool,
    /// One sentence for each that did not.
    pub failures: Vec<String>,
}

/// A measured value with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The point estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// One domain measured on base, its own specialist and the merge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CardComparison {
    /// The domain: "math".
    pub domain: String,
    /// Rows or questions measured.
    pub count: u64,
    /// The base.
    pub base: Option<Measured>,
    /// The domain's own specialist.
    pub specialist: Option<Measured>,
    /// The merge.
    pub merge: Option<Measured>,
}

impl CardComparison {
    /// (base − merge) / (base − specialist): the share of the specialist's gain that the merge kept. None where one is
    /// not measured or the specialist gained nothing.
    #[must_use]
    pub fn gain_kept(&self) -> Option<f64> {
        let (base, specialist, merge) = (self.base?.value, self.specialist?.value, self.merge?.value);
        let gain = base - specialist;
        (gain > 0.0).then(|| (base - merge) / gain)
    }
}

/// A task's score on one domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CardScore {
    /// The suite: "gsm8k".
    pub suite: String,
    /// The metric: "exact match".
    pub metric: String,
    /// The numbers, from 0 to 1.
    pub comparison: CardComparison,
    /// Why a number is missing, or what to know about it.
    pub note: Option<String>,
}
