//! Matrices in the storage formats that kernels read ([`Matrix`]) and write ([`MatrixMut`]).

use half::bf16;

use crate::{Nf4Matrix, math::round_bf16, packed::PackedWeight, parallel::for_each_chunk};

/// An element type of activations: f32, or bf16 for those that only products read.
pub(crate) trait Element: Copy + Default + Send + Sync {
    /// Rounds to this type (nearest, ties to even).
    fn put(x: f32) -> Self;
    /// Widens.
    fn get(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn put(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn put(x: f32) -> Self {
        Self::from_bits(round_bf16(x) as u16)
    }

    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// A row-major matrix of activations, for output.
#[derive(Debug)]
pub enum MatrixMut<'a> {
    /// f32
    F32(&'a mut [f32]),
    /// bf16
    Bf16(&'a mut [bf16]),
}

impl<'a> From<&'a mut [f32]> for MatrixMut<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a mut Vec<f32>> for MatrixMut<'a> {
    fn from(values: &'a mut Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl MatrixMut<'_> {
    /// Stores `x`, rounded to the format, on all threads.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn store(self, x: &[f32]) {
        match self {
            Self::F32(values) => for_each_chunk(values, |first, block| {
                block.copy_from_slice(&x[first..first + block.len()]);
            }),
            Self::Bf16(values) => for_each_chunk(values, |first, block| {
                convert(&x[first..first + block.len()], block);
            }),
        }
    }
}

/// Runs `$work` with `$target` bound to the slice inside a [`MatrixMut`].
macro_rules! with_elements {
    ($matrix:expr, |$target:ident| $work:expr) => {
        match $matrix {
            $crate::MatrixMut::F32($target) => $work,
            $crate::MatrixMut::Bf16($target) => $work,
        }
    };
}
pub(crate) use with_elements;

crate::isa::multiversion! {
    /// `out = x`, widened or rounded.
    pub(crate) fn convert<S: Element, T: Element>(x: &[S], out: &mut [T]) = convert_body
}

#[inline(always)]
fn convert_body<S: Element, T: Element>(x: &[S], out: &mut [T]) {
    for (target, value) in out.iter_mut().zip(x) {
        *target = T::put(value.get());
    }
}

/// A row-major matrix in one of the storage formats, for input.
#[derive(Debug, Clone, Copy)]
pub enum Matrix<'a> {
    /// f32
    F32(&'a [f32]),
    /// bf16
    Bf16(&'a [bf16]),
    /// 4-bit NormalFloat
    Nf4(&'a Nf4Matrix),
    /// 4 or 8 bits, packed in tiles of sixteen rows
    Packed(&'a PackedWeight),
}

impl<'a> From<&'a [f32]> for Matrix<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a Vec<f32>> for Matrix<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a [bf16]> for Matrix<'a> {
    fn from(values: &'a [bf16]) -> Self {
        Self::Bf16(values)
    }
}

impl Matrix<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::Nf4(matrix) => matrix.shape().0 * matrix.shape().1,
            Self::Packed(matrix) => matrix.shape().0 * matrix.shape().1,
        }
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Widens `out.len()` elements of the flat array from `start` on to f32.
    pub fn widen(&self, start: usize, out: &mut [f32]) {
        match self {
            Self::F32(values) => out.copy_from_slice(&values[start..start + out.len()]),
            Self::Bf16(values) => convert(&values[start..start + out.len()], out),
            Self::Nf4(matrix) => matrix.decode(start, out),
            Self::Packed(matrix) => matrix.widen(start, out),
        }
    }

    /// The part beginning at element `start`, for formats that can be split at any element.
    ///
    /// # Panics
    /// For NF4, whose blocks run across rows, and for packed weights.
    #[must_use]
    pub fn tail(self, start: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[start..]),
            Self::Bf16(values) => Self::Bf16(&values[start..]),
            Self::Nf4(_) | Self::Packed(_) => unreachable!("a quantized matrix is used whole"),
        }
    }
}
