//! One weight tensor: a frozen buffer in some storage format, or a range of the flat buffer of trainable parameters.

use std::ops::Range;

use half::bf16;
use synapse_kernels::{Matrix, Nf4Matrix, packed::PackedWeight};

/// One weight tensor, row-major.
#[derive(Debug, Clone)]
pub(crate) enum Tensor {
    /// Frozen f32.
    F32(Vec<f32>),
    /// Frozen bf16.
    Bf16(Vec<bf16>),
    /// Frozen 4-bit NormalFloat.
    Nf4(Nf4Matrix),
    /// Frozen, 4 or 8 bits as ggml quantizes.
    Packed(PackedWeight),
    /// A range of the trainable parameters.
    Parameter(Range<usize>),
}

impl Tensor {
    /// The tensor as a kernel operand.
    pub(crate) fn matrix<'a>(&'a self, parameters: &'a [f32]) -> Matrix<'a> {
        match self {
            Self::F32(values) => Matrix::F32(values),
            Self::Bf16(values) => Matrix::Bf16(values),
            Self::Nf4(matrix) => Matrix::Nf4(matrix),
            Self::Packed(matrix) => Matrix::Packed(matrix),
            Self::Parameter(range) => Matrix::F32(&parameters[range.clone()]),
        }
    }

    /// A vector (norm weight, bias), which is f32 by construction.
    ///
    /// # Panics
    /// If the tensor is stored in another format; the loader never does that for vectors.
    pub(crate) fn vector<'a>(&'a self, parameters: &'a [f32]) -> &'a [f32] {
        match self.matrix(parameters) {
            Matrix::F32(values) => values,
            _ => unreachable!("vectors are loaded as f32"),
        }
    }

    /// The tiles, where the tensor is held in them.
    pub(crate) fn tiles(&self) -> Option<&PackedWeight> {
        match self {
            Self::Packed(tiles) => Some(tiles),
            _ => None,
        }
    }

    /// Where the tensor's gradient goes, if it is trained.
    pub(crate) fn range(&self) -> Option<Range<usize>> {
        match self {
            Self::Parameter(range) => Some(range.clone()),
            _ => None,
        }
    }

    /// Bytes held, trainable parameters not counted.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => values.len() * 4,
            Self::Bf16(values) => values.len() * 2,
            Self::Nf4(matrix) => matrix.bytes(),
            Self::Packed(matrix) => matrix.bytes(),
            Self::Parameter(_) => 0,
        }
    }
}
