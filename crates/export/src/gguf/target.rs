//! A GGUF file whose tensors arrive as rows, in any order and from any thread. A merge streams into it, so that no model
//! folder has to be written first. The bytes are the same as [`super::export_gguf`] writes for the same values.

use std::collections::HashMap;
use std::path::Path;

use synapse_checkpoint::gguf::{TensorType, dequantize, rotated_heads};
use synapse_checkpoint::{ModelConfig, StagedFile};

use super::writer::head;
use super::{Contents, GgufExport, contents, encode, tensor_error};
use crate::error::Result;

/// A GGUF file that is being written, next to its final name.
#[derive(Debug)]
pub struct GgufTarget {
    file: StagedFile,
    /// By the model's tensor name.
    places: HashMap<String, Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    tensor_type: TensorType,
    /// Elements of a row; a vector whose elements are reordered has rows of one.
    width: usize,
    /// Rows of one attention head, where GGUF wants them in its own rotary order.
    head_dim: Option<usize>,
}

impl GgufTarget {
    /// Writes everything but the model's tensors, and reserves their space. The tokenizer, template and settings
    /// are those of `export.model`; its weights are not read.
    ///
    /// # Errors
    /// Same as [`super::export_gguf`], except for the weights.
    pub fn create(export: &GgufExport<'_>, out: &Path) -> Result<Self> {
        let Contents {
            metadata,
            tensors,
            sources,
            divisors,
        } = contents(export)?;
        let (head, offsets) = head(&metadata, &tensors);
        let file = StagedFile::beside(out)?;
        let end = tensors
            .iter()
            .zip(&offsets)
            .map(|(tensor, offset)| offset + tensor.bytes().next_multiple_of(super::writer::ALIGNMENT))
            .max()
            .unwrap_or(head.len() as u64);
        file.reserve(end)?;
        file.write_at(0, &head)?;
        let mut places = HashMap::new();
        for ((tensor, source), &offset) in tensors.iter().zip(sources).zip(&offsets) {
            match source {
                Some(source) => {
                    let place = place(export.config, &source, tensor.tensor_type, &tensor.shape, offset);
                    places.insert(source, place);
                }
                None => {
                    let divisors = divisors.as_deref().unwrap_or_default();
                    file.write_at(offset, &encode(&tensor.name, tensor.tensor_type, divisors)?)?;
                }
            }
        }
        Ok(Self { file, places })
    }

    /// Stores whole rows of a tensor, by its name in the model, from element `start` on; returns Σ (stored − value)².
    ///
    /// # Errors
    /// The model has no such tensor, a value is not finite or too large for the type, or the file cannot be written.
    pub fn store(&self, name: &str, start: usize, values: &[f32]) -> Result<f64> {
        let Some(place) = self.places.get(name) else {
            return Err(tensor_error(name, "is not in the file's directory"));
        };
        let bytes = encode(name, place.tensor_type, values)?;
        let row_bytes = place.width / place.tensor_type.block_elements() * place.tensor_type.block_bytes();
        let first = start / place.width;
        match place.head_dim {
            None => self.file.write_at(place.offset + (first * row_bytes) as u64, &bytes)?,
            Some(head_dim) => {
                for (row, bytes) in bytes.chunks(row_bytes).enumerate() {
                    let row = interleaved(first + row, head_dim);
                    self.file.write_at(place.offset + (row * row_bytes) as u64, bytes)?;
                }
            }
        }
        let mut stored = Vec::with_capacity(values.len());
        dequantize(place.tensor_type, &bytes, &mut stored);
        let error = |(stored, value): (&f32, &f32)| f64::from(stored - value) * f64::from(stored - value);
        Ok(stored.iter().zip(values).map(error).sum())
    }

    /// Brings the file to the disk and gives it its name.
    ///
    /// # Errors
    /// The disk refuses; an old file is then still there.
    pub fn publish(self) -> Result<()> {
        Ok(self.file.publish()?)
    }
}

fn place(config: &ModelConfig, source: &str, tensor_type: TensorType, shape: &[usize], offset: u64) -> Place {
    let rotated = rotated_heads(config, source).is_some();
    Place {
        offset,
        tensor_type,
        width: match shape {
            [_] if rotated => 1,
            [entries] => *entries,
            [_, rest @ ..] => rest.iter().product(),
            [] => 1,
        },
        head_dim: rotated.then_some(config.head_dim),
    }
}

/// Where a row of Hugging Face's order, in which a head's rotated pairs are its two halves, stands in GGUF's, in which
/// the two of a pair are neighbors.
fn interleaved(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    let half = head_dim / 2;
    head * head_dim
        + if within < half {
            2 * within
        } else {
            2 * (within - half) + 1
        }
}
