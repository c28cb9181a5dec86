//! manifest.json: what the prepared data was made of, in enough detail to reproduce it bit for bit.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use synapse_recipe::{Format, LossOn, Overlong};

use crate::{DataError, Lengths, Result, SourceFile};

/// Changes when the same inputs give other bytes.
pub const FORMAT_VERSION: u32 = 3;

/// What the prepared data was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the program that wrote it.
    pub format_version: u32,
    /// Seeds sampling, splitting and shuffling.
    pub seed: u64,
    /// sha256 of the chat template.
    pub template_sha256: String,
    /// sha256 of tokenizer.json.
    pub tokenizer_sha256: String,
    /// Tokens of one row, at most.
    pub max_seq_len: usize,
    /// Whether documents share rows.
    pub packing: bool,
    /// Which tokens carry loss.
    pub loss_on: LossOn,
    /// What happened to longer documents.
    pub overlong: OverlongManifest,
    /// Lengths of training documents before anything was cut.
    #[serde(default)]
    pub lengths: Lengths,
    /// Benchmarks that training rows were decontaminated against.
    #[serde(default)]
    pub decontaminated_against: Vec<String>,
    /// The sources in the recipe's order.
    pub sources: Vec<SourceManifest>,
    /// train.arrow.
    pub train: SplitManifest,
    /// held_out.arrow.
    pub held_out: SplitManifest,
    /// Warnings that were shown to the user.
    pub warnings: Vec<String>,
}

/// One source of the recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceManifest {
    /// As the recipe names it.
    pub dataset: String,
    /// Hub id, `local` or `routing`.
    pub origin: String,
    /// Commit of a hub dataset.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<String>,
    /// License as the recipe, the registry or the dataset's card states it.
    #[serde(rename(serialize = "licence"), alias = "licence")]
    pub license: Option<String>,
    /// The number of rows fetched, if only the first ones were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first_rows: Option<u64>,
    /// The number of files that these were sampled from, if they were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drawn_from: Option<usize>,
    /// The files read.
    pub files: Vec<FileManifest>,
    /// The recipes whose requests generated rows are made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestsManifest>,
    /// Format, detected or given; none for generated rows.
    pub format: Option<Format>,
    /// What the recipe asked for: `all`, `rest` or a number.
    pub asked: String,
    /// Rows read.
    pub rows_read: u64,
    /// Rows left out, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// The places of the first few of them, by reason.
    #[serde(default)]
    pub examples: BTreeMap<String, Vec<String>>,
    /// Columns that no field of the format takes, and keys of turns that are not read (`messages[].name`).
    #[serde(default)]
    pub unused_columns: Vec<String>,
    /// Lengths of its training documents before anything was cut.
    #[serde(default)]
    pub lengths: Lengths,
    /// Its documents that were too long.
    #[serde(default)]
    pub overlong: Overlength,
    /// Training rows whose text contains a special token, which stays text.
    #[serde(default, rename = "control_tokens")]
    pub special_token_rows: u64,
    /// Rows that could have been sampled.
    pub rows_available: u64,
    /// Rows sampled for training, before tokenizing.
    pub rows_taken: u64,
    /// Training documents made of them.
    pub documents: u64,
    /// Tokens of those documents.
    pub tokens: u64,
    /// Tokens that count in the loss.
    #[serde(rename = "trained_tokens")]
    pub target_tokens: u64,
    /// Rows held out.
    pub held_out_rows: u64,
}

/// One recipe whose requests generated rows are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsManifest {
    /// The label they are given.
    pub label: String,
    /// The recipe's name.
    pub recipe: String,
    /// Its sources.
    pub sources: Vec<RequestsSource>,
    /// Usable requests among its training rows: training prompts are made of them.
    pub held_in: u64,
    /// Usable requests among its held-out rows: held-out prompts are made of them.
    pub held_out: u64,
    /// Requests left out, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// One source of such a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsSource {
    /// As that recipe names it.
    pub dataset: String,
    /// Hub id or `local`.
    pub origin: String,
    /// Commit of a hub dataset.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revision: Option<String>,
    /// Its license.
    #[serde(rename(serialize = "licence"), alias = "licence")]
    pub license: Option<String>,
    /// The files read.
    pub files: Vec<FileManifest>,
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileManifest {
    /// Its name in the repository, or the file's own.
    pub name: String,
    /// sha256 of its bytes.
    pub sha256: String,
}

impl FileManifest {
    pub(crate) fn of(file: &SourceFile) -> Self {
        Self {
            name: file.name.clone(),
            sha256: file.sha256.clone(),
        }
    }
}

/// What happened to training documents longer than a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlongManifest {
    /// The recipe's policy.
    pub policy: Overlong,
    /// Documents that were too long.
    pub rows: u64,
    /// Tokens that training does not see because of it.
    pub tokens_lost: u64,
}

/// One source's documents that were longer than a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Overlength {
    /// Number of documents.
    pub rows: u64,
    /// Tokens that training does not see because of it.
    pub tokens_lost: u64,
}

/// One of the two files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SplitManifest {
    /// Rows of the file.
    pub rows: u64,
    /// Documents in them.
    pub documents: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Tokens that count in the loss.
    #[serde(rename = "trained_tokens")]
    pub target_tokens: u64,
    /// sha256 of the file.
    pub sha256: String,
}

impl Manifest {
    /// Reads a manifest.json.
    ///
    /// # Errors
    /// The file is missing, or is not a manifest.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
        serde_json::from_str(&text)
            .map_err(|error| DataError::malformed(&path.display(), format!("not a data manifest: {error}")))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| DataError::malformed(&path.display(), error.to_string()))?;
        text.push('\n');
        Ok(synapse_checkpoint::write_atomic(path, text.as_bytes())?)
    }
}
