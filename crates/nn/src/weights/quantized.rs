//! Weights as ggml stores them: quantized at load with the codes that an exported GGUF file holds, or read from one.
//! Both ways end in the same tensors, so a model gives the same numbers whichever way it came.

use std::ops::Range;

use half::bf16;
use synapse_checkpoint::{
    GgufModel, ModelFolder,
    gguf::{TensorType, dequantize, quantize, stored_type, unfit},
};
use synapse_kernels::{
    Precision, for_each_row_block,
    packed::{PackedFormat, PackedWeight},
};

use super::source::WeightSource;
use crate::{NnError, tensor::Tensor};

/// Weights are quantized in pieces of about this many elements.
const PIECE_ELEMENTS: usize = 1 << 22;

/// Matrices as this type's tiles; `None` for a type that has none.
fn tiles(tensor_type: TensorType) -> Option<PackedFormat> {
    match tensor_type {
        TensorType::Q4_0 => Some(PackedFormat::Q4_0),
        TensorType::Q8_0 => Some(PackedFormat::Q8_0),
        TensorType::Q4K => Some(PackedFormat::Q4K),
        TensorType::Q5K => Some(PackedFormat::Q5K),
        TensorType::Q6K => Some(PackedFormat::Q6K),
        _ => None,
    }
}

/// A matrix from its stored blocks: Q4_0, Q8_0 and K-quants as they are, in tiles; other types as the values they stand
/// for, in f32 where products do not round, else in bf16.
fn matrix(tensor_type: TensorType, [rows, columns]: [usize; 2], stored: &[u8], precision: Precision) -> Tensor {
    if let Some(kind) = tiles(tensor_type) {
        let mut tiled = PackedWeight::zeros(kind, rows, columns);
        tiled.store_rows(0, stored);
        return Tensor::Packed(tiled);
    }
    let mut values = Vec::with_capacity(rows * columns);
    dequantize(tensor_type, stored, &mut values);
    match precision {
        Precision::F32 => Tensor::F32(values),
        Precision::Bf16 => Tensor::Bf16(values.into_iter().map(bf16::from_f32).collect()),
    }
}

/// Blocks of whole rows, quantized on all threads.
fn blocks(tensor_type: TensorType, values: &[f32], columns: usize) -> Vec<u8> {
    let row_bytes = columns / tensor_type.block_elements() * tensor_type.block_bytes();
    let mut stored = vec![0; values.len() / columns * row_bytes];
    for_each_row_block(&mut stored, row_bytes, |first, target| {
        let rows = target.len() / row_bytes;
        let mut bytes = Vec::with_capacity(target.len());
        quantize(
            tensor_type,
            &values[first * columns..(first + rows) * columns],
            &mut bytes,
        );
        target.copy_from_slice(&bytes);
    });
    stored
}

/// Tiles of a matrix whose rows `read` gives piece by piece.
pub(crate) fn quantized_matrix(
    tensor_type: TensorType,
    (name, [rows, columns]): (&str, [usize; 2]),
    precision: Precision,
    mut read: impl FnMut(Range<usize>, &mut Vec<f32>) -> Result<(), NnError>,
) -> Result<Tensor, NnError> {
    let mut values = Vec::new();
    let mut tiled = tiles(tensor_type).map(|kind| PackedWeight::zeros(kind, rows, columns));
    // rows that no block divides stay F16, in one piece
    let step = tiled.as_ref().map_or(rows, |_| (PIECE_ELEMENTS / columns).max(1));
    for first in (0..rows).step_by(step.max(1)) {
        let piece = first..rows.min(first + step);
        read(piece.clone(), &mut values)?;
        if let Some(why) = unfit(tensor_type, &values, "its scales are f16") {
            return Err(NnError::Unsupported {
                what: format!("{} storage of `{name}`, which {why},", tensor_type.name()),
                hint: "load this model without quantizing it".into(),
            });
        }
        let stored = blocks(tensor_type, &values, columns);
        match &mut tiled {
            Some(tiled) => tiled.store_rows(first, &stored),
            None => return Ok(matrix(tensor_type, [rows, columns], &stored, precision)),
        }
    }
    Ok(tiled.map_or_else(|| Tensor::F32(Vec::new()), Tensor::Packed))
}

/// A folder's weights, quantized as an export to GGUF would.
pub(crate) struct QuantizedSource<'a> {
    pub(crate) folder: &'a ModelFolder,
    pub(crate) wanted: TensorType,
    pub(crate) precision: Precision,
}

impl WeightSource for QuantizedSource<'_> {
    fn matrix(&mut self, name: &str, shape: [usize; 2], _linear: bool) -> Result<Tensor, NnError> {
        let tensor_type = stored_type(self.folder.config(), self.wanted, name, &shape);
        quantized_matrix(tensor_type, (name, shape), self.precision, |rows, values| {
            Ok(self.folder.read_f32_rows(name, rows, values)?)
        })
    }

    fn vector(&mut self, name: &str, _len: usize) -> Result<Tensor, NnError> {
        Ok(Tensor::F32(self.folder.read_f32(name)?))
    }
}

/// A GGUF file's weights.
pub(crate) struct GgufSource<'a> {
    pub(crate) model: &'a GgufModel,
    pub(crate) precision: Precision,
}

impl WeightSource for GgufSource<'_> {
    fn matrix(&mut self, name: &str, shape: [usize; 2], _linear: bool) -> Result<Tensor, NnError> {
        let (tensor_type, stored) = self.model.read_stored(name)?;
        Ok(matrix(tensor_type, shape, &stored, self.precision))
    }

    fn vector(&mut self, name: &str, _len: usize) -> Result<Tensor, NnError> {
        Ok(Tensor::F32(self.model.read_f32(name)?))
    }
}
