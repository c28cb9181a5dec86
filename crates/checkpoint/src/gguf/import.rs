//! A GGUF file turned into a Hugging Face model folder: configuration, tokenizer, chat template and bf16 weights.
//! Quantised weights are dequantised once and rounded to bf16; what quantisation lost stays lost.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::config::{ROPE_FREQUENCIES, model_config};
use super::names::{gguf_tensor_name, separate_rotary_rows};
use super::tokenizer::Tokenizer;
use super::{GgufFile, GgufTensor};
use crate::config::{Architecture, ModelConfig};
use crate::dtype::DType;
use crate::error::{CheckpointError, Result};
use crate::publish::{Staged, write_atomic};
use crate::writer::ShardedWriter;

/// Hugging Face's own customary shard size.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Writes the model folder `out` (config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
/// chat_template.jinja where the file has one, and bf16 safetensors) from a GGUF file of a Llama or Qwen2.
///
/// # Errors
/// The file is malformed, or its model, tokenizer or a tensor's type is not supported; the message names the key or
/// tensor, and `out` is left as it was.
pub fn import_gguf(gguf: &Path, out: &Path) -> Result<()> {
    import_gguf_as(gguf, out, DType::BF16)
}

/// The same with weights in another type: F32 holds exactly what the file's blocks stand for.
///
/// # Errors
/// As [`import_gguf`].
pub fn import_gguf_as(gguf: &Path, out: &Path, dtype: DType) -> Result<()> {
    let file = GgufFile::open(gguf)?;
    let config = model_config(&file)?;
    let sources = match_tensors(&file, &config)?;
    let tokenizer = Tokenizer::read(file.metadata(), config.vocab_size)?;

    let staged = Staged::beside(out)?;
    let write = |name: &str, text: &str| write_atomic(&staged.path().join(name), text.as_bytes());
    write("config.json", &config.to_json())?;
    let generation = json!({
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
        "pad_token_id": tokenizer.padding_id(),
    });
    write("generation_config.json", &format!("{generation:#}\n"))?;
    write("tokenizer.json", &format!("{:#}\n", tokenizer.tokenizer_json()))?;
    write(
        "tokenizer_config.json",
        &format!(
            "{:#}\n",
            tokenizer.tokenizer_config_json(config.max_position_embeddings)
        ),
    )?;
    if let Some(template) = tokenizer.chat_template() {
        write("chat_template.jinja", template)?;
    }
    write_weights(staged.path(), &file, &config, &sources, dtype)?;
    staged.publish()
}

/// A tensor to be written and where it comes from.
struct Source<'a> {
    name: String,
    shape: Vec<usize>,
    tensor: &'a GgufTensor,
}

fn match_tensors<'a>(file: &'a GgufFile, config: &ModelConfig) -> Result<Vec<Source<'a>>> {
    let mut sources = Vec::new();
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
        used.insert(stored);
        sources.push(Source { name, shape, tensor });
    }
    match file.tensors().iter().find(|tensor| !used.contains(&tensor.name)) {
        Some(unused) => Err(CheckpointError::tensor(
            file.path(),
            &unused.name,
            format!("is not part of a {}", config.architecture.class_name()),
        )),
        None => Ok(sources),
    }
}

fn write_weights(
    folder: &Path,
    file: &GgufFile,
    config: &ModelConfig,
    sources: &[Source<'_>],
    dtype: DType,
) -> Result<()> {
    let layout: Vec<_> = sources
        .iter()
        .map(|source| (source.name.clone(), dtype, source.shape.clone()))
        .collect();
    let mut writer = ShardedWriter::create(folder, &layout, SHARD_BYTES)?;
    let mut bytes = Vec::new();
    for source in sources {
        bytes.clear();
        file.read_chunks(source.tensor, |values| {
            dtype.extend_bytes(values, &mut bytes);
        })?;
        match rotated_heads(config, &source.name) {
            Some(heads) => writer.write(&source.name, &separate_rotary_rows(&bytes, heads, config.head_dim))?,
            None => writer.write(&source.name, &bytes)?,
        }
    }
    writer.finish()
}

/// How many heads a tensor's rows are divided into, where GGUF stores them in its own rotary order: only a Llama's
/// query and key projections.
fn rotated_heads(config: &ModelConfig, name: &str) -> Option<usize> {
    match config.architecture {
        Architecture::Qwen2 | Architecture::Synapse => None,
        Architecture::Llama if name.contains(".q_proj.") => Some(config.num_attention_heads),
        Architecture::Llama if name.contains(".k_proj.") => Some(config.num_key_value_heads),
        Architecture::Llama => None,
    }
}
