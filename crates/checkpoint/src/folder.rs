//! A Hugging Face model folder: config.json with single or sharded safetensors. Opening proves that every tensor the
//! architecture needs is there in the right shape and a floating type, and settles whether the head is the embedding
//! ([`crate::HeadChange`] has the rule), so that readers need not ask again. Tokenizer and chat template belong to another
//! crate.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::bf16;
use serde::Deserialize;

use crate::compare::same_values;
use crate::config::ModelConfig;
use crate::error::{CheckpointError, Result};
use crate::hash::sha256_of_files;
use crate::header::TensorInfo;
use crate::output_head::{self, EMBEDDING, HEAD};
use crate::stored_names;
use crate::tensors::TensorFiles;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// How many names an error lists before it only counts.
const LISTED: usize = 4;

/// An opened model folder. Weights stay on disk until they are read; sharing it between threads is fine.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    /// With the head as it was settled.
    config: ModelConfig,
    files: TensorFiles,
    /// Stored names by the architecture's.
    stored: BTreeMap<String, String>,
    /// The architecture's tensors, in the order of [`ModelConfig::tensors`].
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl ModelFolder {
    /// Opens `path` and checks config.json, every safetensors header against its file's length, and the tensors
    /// against the configuration.
    ///
    /// # Errors
    /// Something is missing, truncated, malformed, unexpected, of the wrong shape or quantized; the message names it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut config = ModelConfig::read(path)?;
        let files = TensorFiles::open(weight_files(path)?)?;
        let mut stored = stored_names::by_architecture(&files)?;
        output_head::settle(&mut config, &files, &mut stored)?;
        let expected = config.tensors();
        check_names(path, &config, &stored, &expected)?;
        for (name, shape) in &expected {
            let own = stored.get(name).unwrap_or(name);
            let Some(info) = files.info(own) else {
                continue;
            };
            if info.shape != *shape {
                let file = files.path_of(own).unwrap_or(path).to_owned();
                return Err(CheckpointError::Shape {
                    path: file,
                    tensor: name.clone(),
                    expected: shape.clone(),
                    found: info.shape.clone(),
                });
            }
            if !info.dtype.is_weight() {
                return Err(CheckpointError::not_floating(
                    files.path_of(own).unwrap_or(path),
                    name,
                    info.dtype,
                ));
            }
        }
        let names = expected.into_iter().map(|(name, _)| name).collect();
        Ok(Self {
            path: path.to_owned(),
            config,
            files,
            stored,
            names,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.json. Its `tie_word_embeddings` is that of the weights: false where the folder stores a head of
    /// its own, whatever the file says.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The architecture's tensors, in the order of [`ModelConfig::tensors`].
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The name that a tensor is stored under; a tied head is its embedding.
    fn stored<'n>(&'n self, name: &'n str) -> &'n str {
        let name = if name == HEAD && self.config.tie_word_embeddings {
            EMBEDDING
        } else {
            name
        };
        self.stored.get(name).map_or(name, String::as_str)
    }

    /// Whether a tensor of other files, `stored`, holds the values of the folder's tensor `name`. Where one of them is
    /// stored narrower, the other counts as rounded to that type.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn holds(&self, name: &str, files: &TensorFiles, stored: &str) -> Result<bool> {
        same_values((&self.files, self.stored(name)), (files, stored))
    }

    /// Type and shape of a tensor. A tied head's are its embedding's.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.files.info(self.stored(name))
    }

    /// config.json and every safetensors file.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let config = self.path.join("config.json");
        std::iter::once(config)
            .chain(self.files.paths().map(Path::to_owned))
            .collect()
    }

    /// Tells the system that a tensor will be read soon; nothing is lost where it does not listen.
    pub fn announce(&self, name: &str) {
        self.files.announce(self.stored(name));
    }

    /// Reads a tensor's bytes as stored (little-endian) into `out`, which is resized and reused.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_bytes(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        self.files.read_bytes(self.stored(name), out)
    }

    /// Reads a tensor, widened to f32.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        self.files.read_f32(self.stored(name))
    }

    /// Reads a tensor, rounded to bf16 where it is stored wider.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_bf16(&self, name: &str) -> Result<Vec<bf16>> {
        self.files.read_bf16(self.stored(name))
    }

    /// Reads rows of a tensor, widened to f32, into `out`, which is cleared and reused.
    ///
    /// # Errors
    /// There is no such tensor, it has fewer rows, or the file cannot be read.
    pub fn read_f32_rows(&self, name: &str, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        self.files.read_f32_rows(self.stored(name), rows, out)
    }

    /// Reads rows of a tensor, widened to f32, into a slice of just their length.
    ///
    /// # Errors
    /// There is no such tensor, it has fewer rows, the slice has another length, or the file cannot be read.
    pub fn read_f32_into(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        self.files.read_f32_into(self.stored(name), rows, out)
    }

    /// SHA-256 over config.json and every safetensors file. Reads everything once.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        let config = self.path.join("config.json");
        sha256_of_files(std::iter::once(config.as_path()).chain(self.files.paths()))
    }
}

/// The safetensors files of a folder: the single one, or the index's shards in order of their names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let path = folder.join(INDEX);
    if !path.is_file() {
        let way_out =
            if folder.join("pytorch_model.bin").is_file() || folder.join("pytorch_model.bin.index.json").is_file() {
                "only safetensors are read, so convert pytorch_model.bin first"
            } else {
                "is this a model folder?"
            };
        return Err(CheckpointError::folder(
            folder,
            format!("holds neither {SINGLE} nor {INDEX}: {way_out}"),
        ));
    }
    let text = std::fs::read(&path).map_err(CheckpointError::io("read", &path))?;
    let index: Index = serde_json::from_slice(&text).map_err(CheckpointError::json(&path))?;
    let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    if let Some(outside) = shards
        .iter()
        .find(|name| name.is_empty() || name.contains(['/', '\\']) || **name == "..")
    {
        return Err(CheckpointError::field(
            &path,
            "weight_map",
            format!("names `{outside}`, which is not a file of this folder"),
        ));
    }
    let missing: Vec<&str> = shards
        .iter()
        .copied()
        .filter(|name| !folder.join(name).is_file())
        .collect();
    if !missing.is_empty() {
        return Err(CheckpointError::folder(
            folder,
            format!(
                "shards named in {INDEX} are missing: {}; fetch them again",
                list(&missing)
            ),
        ));
    }
    Ok(shards.into_iter().map(|name| folder.join(name)).collect())
}

fn check_names(
    path: &Path,
    config: &ModelConfig,
    stored: &BTreeMap<String, String>,
    expected: &[(String, Vec<usize>)],
) -> Result<()> {
    let missing: Vec<&str> = expected
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !stored.contains_key(*name))
        .collect();
    if missing == [HEAD] {
        return Err(CheckpointError::folder(
            path,
            format!(
                "config.json does not tie the output head to the embedding, but there is no `{HEAD}`; if the model ties \
                 them, set `tie_word_embeddings` to true"
            ),
        ));
    }
    if !missing.is_empty() {
        return Err(CheckpointError::folder(
            path,
            format!("tensors that config.json asks for are missing: {}", list(&missing)),
        ));
    }
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    // Old Llama folders carry the rotary frequencies, which follow from the configuration; a head that is stored beside the
    // embedding it is tied to equals it.
    let redundant = |name: &str| name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == HEAD);
    let unexpected: Vec<&str> = stored
        .iter()
        .filter(|(name, _)| !known.contains(name.as_str()) && !redundant(name))
        .map(|(_, own)| own.as_str())
        .collect();
    if unexpected.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::folder(
        path,
        format!(
            "tensors that {} does not have: {}; does config.json belong to these weights?",
            config.architecture.class_name(),
            list(&unexpected)
        ),
    ))
}

fn list(names: &[&str]) -> String {
    let shown = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
