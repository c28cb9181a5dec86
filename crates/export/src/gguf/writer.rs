//! The layout of a GGUF v3 file: header, keys, tensor directory, then aligned tensor data in the directory's order.

use std::path::Path;

use synapse_checkpoint::StagedFile;
use synapse_checkpoint::gguf::{DEFAULT_ALIGNMENT, MAGIC, MetadataValue, TensorType};

use super::tensor_error;
use crate::error::Result;

/// Tensor data begins on multiples of this.
pub(super) const ALIGNMENT: u64 = DEFAULT_ALIGNMENT;

/// One tensor of the directory.
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) tensor_type: TensorType,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
}

impl Tensor {
    pub(super) fn bytes(&self) -> u64 {
        let elements: u64 = self.shape.iter().map(|&size| size as u64).product();
        elements / self.tensor_type.block_elements() as u64 * self.tensor_type.block_bytes() as u64
    }
}

/// Streams tensor data in the directory's order into a file next to its final name.
pub(super) struct Writer {
    file: StagedFile,
    /// Names and lengths of the tensors still to come, the next one last.
    waiting: Vec<(String, u64)>,
    /// Bytes written of the current tensor.
    written: u64,
}

impl Writer {
    pub(super) fn create(out: &Path, metadata: &[(String, MetadataValue)], tensors: &[Tensor]) -> Result<Self> {
        let (head, _) = head(metadata, tensors);
        let mut file = StagedFile::beside(out)?;
        file.write(&head)?;
        let waiting = tensors
            .iter()
            .rev()
            .map(|tensor| (tensor.name.clone(), tensor.bytes()))
            .collect();
        Ok(Self {
            file,
            waiting,
            written: 0,
        })
    }

    /// Appends data of the current tensor.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Checks the current tensor's length and pads the file; the next write belongs to the next tensor.
    pub(super) fn end_tensor(&mut self) -> Result<()> {
        let (name, expected) = self.waiting.pop().unwrap_or_default();
        if self.written != expected {
            return Err(tensor_error(
                &name,
                format!("takes {expected} bytes, {} were written", self.written),
            ));
        }
        let padding = self.written.next_multiple_of(DEFAULT_ALIGNMENT) - self.written;
        self.file.write(&vec![0; padding as usize])?;
        self.written = 0;
        Ok(())
    }

    pub(super) fn publish(self) -> Result<()> {
        if let Some((name, _)) = self.waiting.last() {
            return Err(tensor_error(name, "was never written"));
        }
        Ok(self.file.publish()?)
    }
}

/// Everything before the tensor data, and where each tensor's data begins in the file.
pub(super) fn head(metadata: &[(String, MetadataValue)], tensors: &[Tensor]) -> (Vec<u8>, Vec<u64>) {
    let mut head = MAGIC.to_vec();
    head.extend(3_u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        MetadataValue::String(key.clone()).write(&mut head);
        head.extend((value.value_type() as u32).to_le_bytes());
        value.write(&mut head);
    }
    let mut offset = 0_u64;
    let mut offsets = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        MetadataValue::String(tensor.name.clone()).write(&mut head);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        for &size in tensor.shape.iter().rev() {
            head.extend((size as u64).to_le_bytes());
        }
        head.extend(tensor.tensor_type.number().to_le_bytes());
        head.extend(offset.to_le_bytes());
        offsets.push(offset);
        offset += tensor.bytes().next_multiple_of(DEFAULT_ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
    let start = head.len() as u64;
    (head, offsets.into_iter().map(|offset| start + offset).collect())
}
