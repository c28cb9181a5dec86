//! The left and right operands of a product: matrices with a row stride, transposed or not.

use crate::Matrix;

/// The left operand: activations.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    pub(super) matrix: Matrix<'a>,
    pub(super) stride: usize,
    pub(super) transposed: bool,
}

/// The right operand, a weight or another activation.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a> {
    pub(super) matrix: Matrix<'a>,
    pub(super) stride: usize,
    pub(super) transposed: bool,
}

impl<'a> Left<'a> {
    /// `[m, k]`, rows `stride` elements apart.
    pub fn rows(matrix: impl Into<Matrix<'a>>, stride: usize) -> Self {
        Self {
            matrix: matrix.into(),
            stride,
            transposed: false,
        }
    }

    /// Stored as `[k, m]`, rows `stride` elements apart.
    pub fn transposed(matrix: impl Into<Matrix<'a>>, stride: usize) -> Self {
        Self {
            matrix: matrix.into(),
            stride,
            transposed: true,
        }
    }

    pub(super) fn check(&self, m: usize, k: usize) {
        let (rows, cols) = if self.transposed { (k, m) } else { (m, k) };
        check(self.matrix, (rows, cols), self.stride, "left");
    }
}

impl<'a> Right<'a> {
    /// `[k, n]`, rows `stride` elements apart.
    pub fn rows(matrix: impl Into<Matrix<'a>>, stride: usize) -> Self {
        Self {
            matrix: matrix.into(),
            stride,
            transposed: false,
        }
    }

    /// Stored as `[n, k]`, rows `stride` elements apart: a linear layer's weight in its forward pass.
    pub fn transposed(matrix: impl Into<Matrix<'a>>, stride: usize) -> Self {
        Self {
            matrix: matrix.into(),
            stride,
            transposed: true,
        }
    }

    pub(super) fn check(&self, n: usize, k: usize) {
        let (rows, cols) = if self.transposed { (n, k) } else { (k, n) };
        check(self.matrix, (rows, cols), self.stride, "right");
    }
}

fn check(matrix: Matrix<'_>, (rows, cols): (usize, usize), stride: usize, side: &str) {
    let needed = if rows == 0 || cols == 0 {
        0
    } else {
        (rows - 1) * stride + cols
    };
    assert!(
        matrix.len() >= needed,
        "{side} operand of {} elements is too short for {rows} rows of {cols}, {stride} apart",
        matrix.len()
    );
}
