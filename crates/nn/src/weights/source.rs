//! The trait by which a decoder gets its tensors, and the two plain sources: a model folder, and the flat buffer of
//! trainable parameters.

use std::ops::Range;

use synapse_checkpoint::ModelFolder;
use synapse_kernels::{Nf4Matrix, Precision};

use crate::{NnError, WeightDtype, tensor::Tensor};

/// Gives a decoder its tensors by name.
pub(crate) trait WeightSource {
    fn matrix(&mut self, name: &str, shape: [usize; 2], linear: bool) -> Result<Tensor, NnError>;
    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, NnError>;
}

/// The weights of a model folder, dense or in NF4.
pub(crate) struct FolderSource<'a> {
    pub(crate) folder: &'a ModelFolder,
    pub(crate) dtype: WeightDtype,
    pub(crate) precision: Precision,
}

impl WeightSource for FolderSource<'_> {
    fn matrix(&mut self, name: &str, [rows, cols]: [usize; 2], linear: bool) -> Result<Tensor, NnError> {
        Ok(match self.dtype {
            WeightDtype::F32 => Tensor::F32(self.folder.read_f32(name)?),
            // with f32 arithmetic the embedding stays as it is stored
            WeightDtype::Nf4 { .. } if !linear && self.precision == Precision::F32 => {
                Tensor::F32(self.folder.read_f32(name)?)
            }
            WeightDtype::Nf4 { double_quant } if linear => Tensor::Nf4(Nf4Matrix::quantize(
                &self.folder.read_f32(name)?,
                rows,
                cols,
                double_quant,
            )),
            _ => Tensor::Bf16(self.folder.read_bf16(name)?),
        })
    }

    fn vector(&mut self, name: &str, _len: usize) -> Result<Tensor, NnError> {
        Ok(Tensor::F32(self.folder.read_f32(name)?))
    }
}

/// All weights in one flat buffer of trainable parameters; the offsets follow the order of the calls.
#[derive(Default)]
pub(crate) struct ParameterSource {
    pub(crate) entries: Vec<(String, Vec<usize>, Range<usize>)>,
    next: usize,
}

impl ParameterSource {
    fn place(&mut self, name: &str, shape: Vec<usize>) -> Tensor {
        let range = self.next..self.next + shape.iter().product::<usize>();
        self.next = range.end;
        self.entries.push((name.to_owned(), shape, range.clone()));
        Tensor::Parameter(range)
    }
}

impl WeightSource for ParameterSource {
    fn matrix(&mut self, name: &str, shape: [usize; 2], _linear: bool) -> Result<Tensor, NnError> {
        Ok(self.place(name, shape.to_vec()))
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, NnError> {
        Ok(self.place(name, vec![len]))
    }
}
