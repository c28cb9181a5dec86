//! A GGUF file, or a folder with one, turned into a Hugging Face model folder: configuration, tokenizer, chat template and bf16 weights.
//! Quantized weights are dequantized once and rounded to bf16; what quantization lost stays lost.

use std::path::Path;

use super::{GgufModel, gguf_at};
use crate::dtype::DType;
use crate::error::Result;
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

/// Same as [`import_gguf`] with weights in another type; F32 holds the dequantized values exactly.
///
/// # Errors
/// Same as [`import_gguf`].
pub fn import_gguf_as(gguf: &Path, out: &Path, dtype: DType) -> Result<()> {
    let file = gguf_at(gguf)?.unwrap_or_else(|| gguf.to_owned());
    let model = GgufModel::open(&file)?;
    let side_files = model.side_files()?;
    let staged = Staged::beside(out)?;
    for (name, text) in side_files {
        write_atomic(&staged.path().join(name), text.as_bytes())?;
    }
    let tensors = model.config().tensors();
    let layout: Vec<_> = tensors
        .iter()
        .map(|(name, shape)| (name.clone(), dtype, shape.clone()))
        .collect();
    let mut writer = ShardedWriter::create(staged.path(), &layout, SHARD_BYTES)?;
    for (name, _) in &tensors {
        writer.write(name, &model.read_as(name, dtype)?)?;
    }
    writer.finish()?;
    staged.publish()
}
