//! A model folder written as one GGUF v3 file that llama.cpp, and everything built on it, loads as is: weights in
//! F16, BF16, Q8_0 or Q4_0, the tokenizer, the chat template. Reading GGUF is the checkpoint crate's subject.

mod metadata;
mod target;
mod tokenizer;
mod writer;

use std::path::Path;
use std::str::FromStr;

use synapse_checkpoint::gguf::{
    MetadataValue, TensorType, gguf_tensor_name, interleave_rotary_rows, quantize, rotated_heads, stored_type, unfit,
};
use synapse_checkpoint::{Architecture, ModelConfig, ModelFolder};

use crate::error::{ExportError, Result};
pub use target::GgufTarget;
use tokenizer::Tokenizer;
use writer::{Tensor, Writer};

/// Rows are read, quantized and written in pieces of about this many elements.
const CHUNK_ELEMENTS: usize = 1 << 20;
/// Llama 3's RoPE frequency divisors, which GGUF keeps as a tensor.
const ROPE_FREQUENCIES: &str = "rope_freqs.weight";

/// The type of the matrices in a GGUF file. Norms and biases are always F32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// Half precision.
    F16,
    /// bfloat16: exact for a bf16 model.
    Bf16,
    /// 8.5 bits per weight; the difference is hardly measurable.
    Q8_0,
    /// 4.5 bits per weight; the output head is stored as Q8_0.
    Q4_0,
}

impl GgufType {
    /// The name used on command lines and in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
        }
    }

    fn tensor_type(self) -> TensorType {
        match self {
            Self::F16 => TensorType::F16,
            Self::Bf16 => TensorType::Bf16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 => TensorType::Q4_0,
        }
    }

    /// llama.cpp's `general.file_type`.
    fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Bf16 => 32,
        }
    }
}

impl FromStr for GgufType {
    type Err = ExportError;

    fn from_str(name: &str) -> Result<Self> {
        [Self::F16, Self::Bf16, Self::Q8_0, Self::Q4_0]
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| ExportError::UnknownType(name.to_owned()))
    }
}

/// One model to be written as GGUF.
#[derive(Clone, Copy, Debug)]
pub struct GgufExport<'a> {
    /// The model folder, tokenizer included.
    pub model: &'a ModelFolder,
    /// The configuration of what is written: the folder's own, or that of a merge over it.
    pub config: &'a ModelConfig,
    /// The type of its matrices.
    pub gguf_type: GgufType,
    /// The model's name, for `general.name`.
    pub name: &'a str,
    /// The license's identifier, for `general.license`.
    pub license: Option<&'a str>,
}

/// Writes the file `out`, streamed tensor by tensor: memory is one piece of a matrix, or one query projection.
///
/// # Errors
/// The tokenizer or RoPE scaling has no GGUF form, a weight is not finite or too large for the type, or a file cannot
/// be read or written; an old `out` is then still there.
pub fn export_gguf(export: &GgufExport<'_>, out: &Path) -> Result<()> {
    check_architecture(export)?;
    let Contents {
        metadata,
        tensors,
        sources,
        divisors,
    } = contents(export)?;
    let mut writer = Writer::create(out, &metadata, &tensors)?;
    for (tensor, source) in tensors.iter().zip(&sources) {
        match source {
            Some(source) => write_tensor(export.model, source, tensor, &mut writer)?,
            None => writer.write(&encode(
                ROPE_FREQUENCIES,
                TensorType::F32,
                divisors.as_deref().unwrap_or_default(),
            )?)?,
        }
        writer.end_tensor()?;
    }
    writer.publish()
}

/// Refuses what GGUF has no words for.
fn check_architecture(export: &GgufExport<'_>) -> Result<()> {
    let config = export.config;
    let path = export.model.path().join("config.json");
    if config.architecture.gguf_name().is_none() {
        return Err(ExportError::unsupported(
            &path,
            "model_type",
            "is synapse, which GGUF cannot represent; export it as safetensors",
        ));
    }
    if config.o_bias && matches!(config.architecture, Architecture::SmolLM3 | Architecture::Qwen3) {
        let message = format!(
            "is true, and llama.cpp has no bias of a {}'s output projection; export it as safetensors",
            config.architecture.class_name()
        );
        return Err(ExportError::unsupported(&path, "attention_bias", message));
    }
    // llama.cpp's own rule for a SmolLM3; the file does not say which layers rotate
    let every_fourth = |layer: usize| (layer + 1).is_multiple_of(4);
    if config.architecture == Architecture::SmolLM3
        && (0..config.num_hidden_layers).any(|layer| config.is_rotated(layer) == every_fourth(layer))
    {
        return Err(ExportError::unsupported(
            &path,
            "no_rope_layers",
            "is not every fourth layer, which is the one arrangement that llama.cpp knows; export it as safetensors",
        ));
    }
    Ok(())
}

/// What a file will hold: keys, the tensor directory, where each tensor comes from, and the one that comes from the
/// configuration.
struct Contents {
    metadata: Vec<(String, MetadataValue)>,
    tensors: Vec<Tensor>,
    /// The model's tensor; `None` for the divisors.
    sources: Vec<Option<String>>,
    divisors: Option<Vec<f32>>,
}

fn contents(export: &GgufExport<'_>) -> Result<Contents> {
    let config = export.config;
    let tokenizer = Tokenizer::read(export.model.path(), config)?;
    let mut metadata = metadata::model(export);
    metadata.extend(tokenizer.metadata());

    let divisors = rope_divisors(export)?;
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut sources: Vec<Option<String>> = Vec::new();
    if let Some(divisors) = &divisors {
        tensors.push(Tensor {
            name: ROPE_FREQUENCIES.to_owned(),
            tensor_type: TensorType::F32,
            shape: vec![divisors.len()],
        });
        sources.push(None);
    }
    for (source, shape) in config.tensors() {
        let name = gguf_tensor_name(&source).ok_or_else(|| tensor_error(&source, "has no name in GGUF"))?;
        tensors.push(Tensor {
            name,
            tensor_type: stored_type(config, export.gguf_type.tensor_type(), &source, &shape),
            shape,
        });
        sources.push(Some(source));
    }
    Ok(Contents {
        metadata,
        tensors,
        sources,
        divisors,
    })
}

fn write_tensor(model: &ModelFolder, source: &str, tensor: &Tensor, writer: &mut Writer) -> Result<()> {
    let config = model.config();
    if let Some(heads) = rotated_heads(config, source) {
        let values = interleave_rotary_rows(&model.read_f32(source)?, heads, config.head_dim);
        return writer.write(&encode(source, tensor.tensor_type, &values)?);
    }
    let rows = tensor.shape.first().copied().unwrap_or(1);
    let width: usize = tensor.shape.iter().skip(1).product();
    let step = (CHUNK_ELEMENTS / width).max(1);
    let mut values = Vec::new();
    for start in (0..rows).step_by(step) {
        model.read_f32_rows(source, start..rows.min(start + step), &mut values)?;
        writer.write(&encode(source, tensor.tensor_type, &values)?)?;
    }
    Ok(())
}

fn encode(name: &str, tensor_type: TensorType, values: &[f32]) -> Result<Vec<u8>> {
    if let Some(why) = unfit(tensor_type, values, "export as bf16") {
        return Err(tensor_error(name, why));
    }
    let mut bytes = Vec::with_capacity(values.len() / tensor_type.block_elements() * tensor_type.block_bytes());
    quantize(tensor_type, values, &mut bytes);
    Ok(bytes)
}

fn rope_divisors(export: &GgufExport<'_>) -> Result<Option<Vec<f32>>> {
    let config = export.config;
    match (&config.rope_scaling, config.architecture) {
        (None, _) => Ok(None),
        (Some(scaling), Architecture::Llama | Architecture::Mistral) => Ok(Some(
            scaling
                .divisors(config.head_dim, config.rope_theta)
                .into_iter()
                .map(|divisor| divisor as f32)
                .collect(),
        )),
        (Some(_), Architecture::SmolLM3 | Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Synapse) => {
            let path = export.model.path().join("config.json");
            Err(ExportError::unsupported(
                &path,
                "rope_scaling",
                format!(
                    "is llama3, which llama.cpp does not apply to a {}",
                    config.architecture.class_name()
                ),
            ))
        }
    }
}

fn tensor_error(tensor: &str, message: impl Into<String>) -> ExportError {
    ExportError::Tensor {
        tensor: tensor.to_owned(),
        message: message.into(),
    }
}
