//! A Llama or Qwen2 in a GGUF file, or in the parts of a split one, seen as a model folder is: its configuration, its tensors under Hugging Face's
//! names and in its order of rows, and the texts of the files beside the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use super::config::{ROPE_FREQUENCIES, model_config};
use super::names::{gguf_tensor_name, rotated_heads, separate_rotary_rows};
use super::tokenizer::Tokenizer;
use super::{GgufFile, GgufTensor, TensorType, dequantize};
use crate::config::ModelConfig;
use crate::dtype::DType;
use crate::error::{CheckpointError, Result};
use crate::hash::{sha256_file, sha256_of_files};
use crate::output_head::{EMBEDDING, HEAD};

/// An opened GGUF file whose model is supported. Weights stay on disk until they are read.
#[derive(Debug)]
pub struct GgufModel {
    file: GgufFile,
    config: ModelConfig,
    /// ggml's name of each of the model's tensors.
    names: BTreeMap<String, String>,
}

impl GgufModel {
    /// Opens a file and checks its model, and that it holds this model's tensors and no others.
    ///
    /// # Errors
    /// The file is malformed, its model or a tensor's type is not supported, or a tensor is missing, left over or of
    /// another shape; the message names the key or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let file = GgufFile::open(path)?;
        let config = model_config(&file)?;
        let names = match_tensors(&file, &config)?;
        Ok(Self { file, config, names })
    }

    /// The file; of a split model, the first part.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// SHA-256 over the file, or over all parts.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        let mut paths = self.file.paths();
        match (paths.next(), paths.next()) {
            (Some(only), None) => sha256_file(only),
            _ => sha256_of_files(self.file.paths()),
        }
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How many matrices are stored as what, in the order in which types first come.
    #[must_use]
    pub fn matrix_types(&self) -> Vec<(TensorType, usize)> {
        let mut counts: Vec<(TensorType, usize)> = Vec::new();
        for tensor in self.file.tensors().iter().filter(|tensor| tensor.shape.len() == 2) {
            match counts.iter_mut().find(|(known, _)| *known == tensor.tensor_type) {
                Some((_, count)) => *count += 1,
                None => counts.push((tensor.tensor_type, 1)),
            }
        }
        counts
    }

    /// A tensor's type and blocks as they are stored, rows in Hugging Face's order.
    ///
    /// # Errors
    /// There is no such tensor, or the file cannot be read.
    pub fn read_stored(&self, name: &str) -> Result<(TensorType, Vec<u8>)> {
        let tensor = self.expect(name)?;
        let bytes = self.file.read_bytes(tensor)?;
        Ok((tensor.tensor_type, self.in_order(name, bytes)))
    }

    /// A tensor, dequantized to f32.
    ///
    /// # Errors
    /// Same as [`GgufModel::read_stored`].
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let (tensor_type, bytes) = self.read_stored(name)?;
        let mut values = Vec::new();
        dequantize(tensor_type, &bytes, &mut values);
        Ok(values)
    }

    /// A tensor dequantized and rounded to F32, F16 or BF16, as little-endian bytes.
    pub(super) fn read_as(&self, name: &str, dtype: DType) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.read_chunks(self.expect(name)?, |values| {
            dtype.extend_bytes(values, &mut bytes);
        })?;
        Ok(self.in_order(name, bytes))
    }

    /// The texts that a model folder would hold beside its weights: config.json, generation_config.json,
    /// tokenizer.json, tokenizer_config.json, and chat_template.jinja where the file has one.
    ///
    /// # Errors
    /// The tokenizer is malformed or not supported; the message names the key.
    pub fn side_files(&self) -> Result<Vec<(&'static str, String)>> {
        let config = &self.config;
        let tokenizer = Tokenizer::read(self.file.metadata(), config.vocab_size)?;
        let generation = json!({
            "bos_token_id": config.bos_token_id,
            "eos_token_id": config.eos_token_ids,
            "pad_token_id": tokenizer.padding_id(),
        });
        let settings = tokenizer.tokenizer_config_json(config.max_position_embeddings);
        let mut files = vec![
            ("config.json", config.to_json()),
            ("generation_config.json", format!("{generation:#}\n")),
            ("tokenizer.json", format!("{:#}\n", tokenizer.tokenizer_json())),
            ("tokenizer_config.json", format!("{settings:#}\n")),
        ];
        if let Some(template) = tokenizer.chat_template() {
            files.push(("chat_template.jinja", template.to_owned()));
        }
        Ok(files)
    }

    fn expect(&self, name: &str) -> Result<&GgufTensor> {
        let name = if name == HEAD && self.config.tie_word_embeddings {
            EMBEDDING
        } else {
            name
        };
        let stored = self.names.get(name).and_then(|stored| self.file.tensor(stored));
        stored.ok_or_else(|| CheckpointError::tensor(self.path(), name, "does not exist"))
    }

    fn in_order(&self, name: &str, bytes: Vec<u8>) -> Vec<u8> {
        match rotated_heads(&self.config, name) {
            Some(heads) => separate_rotary_rows(&bytes, heads, self.config.head_dim),
            None => bytes,
        }
    }
}

fn match_tensors(file: &GgufFile, config: &ModelConfig) -> Result<BTreeMap<String, String>> {
    let mut names = BTreeMap::new();
    let mut used = BTreeSet::from([ROPE_FREQUENCIES.to_owned()]);
    for (name, shape) in config.tensors() {
        let stored = gguf_tensor_name(&name).unwrap_or_else(|| name.clone());
        let tensor = file
            .tensor(&stored)
            .ok_or_else(|| CheckpointError::tensor(file.path(), &stored, "does not exist, but the model needs it"))?;
        if tensor.shape != shape {
            return Err(CheckpointError::Shape {
                path: file.path().to_owned(),
                tensor: stored,
                expected: shape,
                found: tensor.shape.clone(),
            });
        }
        used.insert(stored.clone());
        names.insert(name, stored);
    }
    match file.tensors().iter().find(|tensor| !used.contains(&tensor.name)) {
        Some(unused) => Err(CheckpointError::tensor(
            file.path(),
            &unused.name,
            format!("is not part of a {}", config.architecture.class_name()),
        )),
        None => Ok(names),
    }
}
