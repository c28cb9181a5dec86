//! A pool of activation buffers. Reuse avoids the page faults of fresh memory, a quarter of a second per gigabyte.

use std::ops::{Deref, DerefMut};

use half::bf16;
use synapse_kernels::{Matrix, MatrixMut, Precision};

/// A reused buffer. Its allocation never shrinks below its largest length, so that growing again clears nothing.
#[derive(Debug, Default)]
pub(crate) struct Buffer<T> {
    data: Vec<T>,
    len: usize,
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[..self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.len]
    }
}

impl<'a> From<&'a Buffer<f32>> for Matrix<'a> {
    fn from(buffer: &'a Buffer<f32>) -> Self {
        Self::F32(buffer)
    }
}

impl<'a> From<&'a mut Buffer<f32>> for MatrixMut<'a> {
    fn from(buffer: &'a mut Buffer<f32>) -> Self {
        Self::F32(buffer)
    }
}

/// A matrix that only products read: bf16 if products round to it anyway, else f32.
#[derive(Debug)]
pub(crate) enum Activation {
    F32(Buffer<f32>),
    Bf16(Buffer<bf16>),
}

impl Activation {
    /// To be read.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        match self {
            Self::F32(values) => Matrix::F32(values),
            Self::Bf16(values) => Matrix::Bf16(values),
        }
    }

    /// To be written.
    pub(crate) fn target(&mut self) -> MatrixMut<'_> {
        match self {
            Self::F32(values) => MatrixMut::F32(values),
            Self::Bf16(values) => MatrixMut::Bf16(values),
        }
    }
}

/// An f32 matrix as products read it: itself, or its rounded copy.
#[derive(Debug)]
pub(crate) enum Operand<'a> {
    Itself(&'a [f32]),
    Copy(Activation),
}

impl Operand<'_> {
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        match self {
            Self::Itself(values) => Matrix::F32(values),
            Self::Copy(activation) => activation.matrix(),
        }
    }
}

/// Free lists of buffers.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    floats: FreeList<f32>,
    halves: FreeList<bf16>,
}

impl Pool {
    /// An f32 buffer of `len` elements whose contents are arbitrary.
    pub(crate) fn take(&mut self, len: usize) -> Buffer<f32> {
        self.floats.take(len)
    }

    /// As [`Pool::take`], filled with zeros.
    pub(crate) fn zeros(&mut self, len: usize) -> Buffer<f32> {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// Returns a buffer.
    pub(crate) fn give(&mut self, buffer: Buffer<f32>) {
        self.floats.give(buffer);
    }

    /// An activation of `len` elements whose contents are arbitrary.
    pub(crate) fn activation(&mut self, len: usize, precision: Precision) -> Activation {
        match precision {
            Precision::F32 => Activation::F32(self.floats.take(len)),
            Precision::Bf16 => Activation::Bf16(self.halves.take(len)),
        }
    }

    /// Stores `x` as an activation. If that is a rounded copy, the f32 buffer returns to the pool.
    pub(crate) fn keep(&mut self, x: Buffer<f32>, precision: Precision) -> Activation {
        match precision {
            Precision::F32 => Activation::F32(x),
            Precision::Bf16 => {
                let mut rounded = self.activation(x.len(), precision);
                rounded.target().store(&x);
                self.give(x);
                rounded
            }
        }
    }

    /// `x` for several products: rounded once instead of by each.
    pub(crate) fn operand<'a>(&mut self, x: &'a [f32], precision: Precision) -> Operand<'a> {
        match precision {
            Precision::F32 => Operand::Itself(x),
            Precision::Bf16 => {
                let mut rounded = self.activation(x.len(), precision);
                rounded.target().store(x);
                Operand::Copy(rounded)
            }
        }
    }

    /// Returns an activation.
    pub(crate) fn release(&mut self, activation: Activation) {
        match activation {
            Activation::F32(buffer) => self.floats.give(buffer),
            Activation::Bf16(buffer) => self.halves.give(buffer),
        }
    }

    /// Returns an operand's copy.
    pub(crate) fn release_operand(&mut self, operand: Operand<'_>) {
        if let Operand::Copy(activation) = operand {
            self.release(activation);
        }
    }
}

#[derive(Debug, Default)]
struct FreeList<T>(Vec<Buffer<T>>);

impl<T: Copy + Default> FreeList<T> {
    fn take(&mut self, len: usize) -> Buffer<T> {
        // the smallest that fits, else a new one; half of a large one is not wasted on something small
        let fits = (0..self.0.len())
            .filter(|&i| (len..=2 * len).contains(&self.0[i].data.len()))
            .min_by_key(|&i| self.0[i].data.len());
        match fits {
            Some(index) => {
                let mut buffer = self.0.swap_remove(index);
                buffer.len = len;
                buffer
            }
            None => {
                // the largest of those too small makes room
                let largest = (0..self.0.len())
                    .filter(|&i| self.0[i].data.len() < len)
                    .max_by_key(|&i| self.0[i].data.len());
                drop(largest.map(|index| self.0.swap_remove(index)));
                Buffer {
                    data: vec![T::default(); len],
                    len,
                }
            }
        }
    }

    fn give(&mut self, buffer: Buffer<T>) {
        if !buffer.data.is_empty() {
            self.0.push(buffer);
        }
    }
}
