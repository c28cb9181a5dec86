//! A Hugging Face model folder: config.json with single or sharded safetensors. Opening proves that every tensor the
//! architecture needs is there in the right shape and a floating type, so that readers need not ask again.
//! Tokenizer and chat template belong to another crate.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::bf16;
use serde::Deserialize;

use crate::config::ModelConfig;
use crate::error::{CheckpointError, Result};
use crate::hash::sha256_of_files;
use crate::header::TensorInfo;
use crate::tensors::TensorFiles;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// How many names an error lists before it only counts.
const LISTED: usize = 4;

/// An opened model folder. Weights stay on disk until they are read; sharing it between threads is fine.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    files: TensorFiles,
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
        let config = ModelConfig::read(path)?;
        let files = TensorFiles::open(weight_files(path)?)?;
        let expected = config.tensors();
        check_names(path, &config, &files, &expected)?;
        for (name, shape) in &expected {
            let Some(info) = files.info(name) else {
                continue;
            };
            if info.shape != *shape {
                let file = files.path_of(name).unwrap_or(path).to_owned();
                return Err(CheckpointError::Shape {
                    path: file,
                    tensor: name.clone(),
                    expected: shape.clone(),
                    found: info.shape.clone(),
                });
            }
            if !info.dtype.is_weight() {
                return Err(CheckpointError::not_floating(
                    files.path_of(name).unwrap_or(path),
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
            names,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved config.json.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The architecture's tensors, in the order of [`ModelConfig::tensors`].
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Type and shape of a tensor.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.files.info(name)
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
        self.files.announce(name);
    }

    /// Reads a tensor's bytes as stored (little-endian) into `out`, which is resized and reused.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_bytes(&self, name: &str, out: &mut Vec<u8>) -> Result<()> {
        self.files.read_bytes(name, out)
    }

    /// Reads a tensor, widened to f32.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        self.files.read_f32(name)
    }

    /// Reads a tensor, rounded to bf16 where it is stored wider.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_bf16(&self, name: &str) -> Result<Vec<bf16>> {
        self.files.read_bf16(name)
    }

    /// Reads rows of a tensor, widened to f32, into `out`, which is cleared and reused.
    ///
    /// # Errors
    /// There is no such tensor, it has fewer rows, or the file cannot be read.
    pub fn read_f32_rows(&self, name: &str, rows: Range<usize>, out: &mut Vec<f32>) -> Result<()> {
        self.files.read_f32_rows(name, rows, out)
    }

    /// Reads rows of a tensor, widened to f32, into a slice of just their length.
    ///
    /// # Errors
    /// There is no such tensor, it has fewer rows, the slice has another length, or the file cannot be read.
    pub fn read_f32_into(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        self.files.read_f32_into(name, rows, out)
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
    files: &TensorFiles,
    expected: &[(String, Vec<usize>)],
) -> Result<()> {
    let missing: Vec<&str> = expected
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| files.info(name).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(CheckpointError::folder(
            path,
            format!("tensors that config.json asks for are missing: {}", list(&missing)),
        ));
    }
    let known: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    // Old Llama folders carry the rotary frequencies, which follow from the configuration; a tied head is a copy of the
    // embedding by definition, and transformers ignores it as well.
    let redundant =
        |name: &str| name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == "lm_head.weight");
    let unexpected: Vec<&str> = files
        .names()
        .filter(|name| !known.contains(name) && !redundant(name))
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
