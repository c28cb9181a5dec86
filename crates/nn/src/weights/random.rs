//! Random weights, for measuring what a model costs without its files.

use half::bf16;
use synapse_checkpoint::ModelConfig;
use synapse_kernels::{Nf4Matrix, Precision, random::Stream};

use super::{quantized::quantized_matrix, source::WeightSource};
use crate::{LoadOptions, NnError, WeightDtype, tensor::Tensor};

/// Random weights, a stream a tensor.
pub(crate) struct RandomSource {
    options: LoadOptions,
    bound: f32,
    next: u64,
}

impl RandomSource {
    /// Random weights of the standard deviation that the configuration starts from.
    pub(crate) fn new(config: &ModelConfig, options: &LoadOptions) -> Self {
        Self {
            options: *options,
            // a uniform value within this bound has that deviation
            bound: config.initializer_range as f32 * 3.0f32.sqrt(),
            next: 0,
        }
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        let stream = Stream::new(&[self.next]);
        self.next += 1;
        let mut values = vec![0.0f32; len];
        synapse_kernels::for_each_chunk(&mut values, |first, block| {
            for (offset, value) in block.iter_mut().enumerate() {
                *value = self.bound * (2.0 * stream.uniform((first + offset) as u64) - 1.0);
            }
        });
        values
    }
}

impl WeightSource for RandomSource {
    fn matrix(&mut self, name: &str, [rows, cols]: [usize; 2], linear: bool) -> Result<Tensor, NnError> {
        let values = self.values(rows * cols);
        if let Some(tensor_type) = self.options.dtype.ggml() {
            let shape = (name, [rows, cols]);
            return quantized_matrix(tensor_type, shape, self.options.precision, |piece, target| {
                target.clear();
                target.extend_from_slice(&values[piece.start * cols..piece.end * cols]);
                Ok(())
            });
        }
        Ok(match self.options.dtype {
            WeightDtype::F32 => Tensor::F32(values),
            WeightDtype::Nf4 { .. } if !linear && self.options.precision == Precision::F32 => Tensor::F32(values),
            WeightDtype::Nf4 { double_quant } if linear => {
                Tensor::Nf4(Nf4Matrix::quantize(&values, rows, cols, double_quant))
            }
            _ => Tensor::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        })
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<Tensor, NnError> {
        Ok(Tensor::F32(if name.ends_with("norm.weight") {
            vec![1.0; len]
        } else {
            self.values(len)
        }))
    }
}
