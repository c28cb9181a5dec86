//! The rows of a batch dispatched to one module: gathered, and combined by their gate weights afterwards.

use super::routing::TopKRouting;

/// Rows of a batch, in order, and how many belong to each document.
#[derive(Debug, Clone)]
pub(crate) struct Dispatch {
    /// Row in the batch, and the index of its gate weight in [`TopKRouting::weights`].
    pub(crate) rows: Vec<(usize, usize)>,
    /// Dispatched rows of each document, possibly 0.
    pub(crate) lengths: Vec<usize>,
}

impl Dispatch {
    pub(crate) fn new(choices: &TopKRouting, module: usize, lengths: &[usize]) -> Self {
        let rows = choices.rows(module);
        let mut per_document = Vec::with_capacity(lengths.len());
        let (mut end, mut at) = (0, 0);
        for &length in lengths {
            end += length;
            let from = at;
            at += rows[at..].partition_point(|&(row, _)| row < end);
            per_document.push(at - from);
        }
        Self {
            rows,
            lengths: per_document,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of `x [t, width]`.
    pub(crate) fn gather(&self, x: &[f32], width: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.rows.len() * width);
        for &(row, _) in &self.rows {
            out.extend_from_slice(&x[row * width..(row + 1) * width]);
        }
        out
    }

    /// `x[row] += weight · y` for every row.
    pub(crate) fn combine(&self, y: &[f32], weights: &[f32], x: &mut [f32], width: usize) {
        for (&(row, index), y) in self.rows.iter().zip(y.chunks_exact(width)) {
            let weight = weights[index];
            for (x, y) in x[row * width..(row + 1) * width].iter_mut().zip(y) {
                *x += weight * y;
            }
        }
    }

    /// `x[row] += y` for every row.
    pub(crate) fn add(&self, y: &[f32], x: &mut [f32], width: usize) {
        for (&(row, _), y) in self.rows.iter().zip(y.chunks_exact(width)) {
            for (x, y) in x[row * width..(row + 1) * width].iter_mut().zip(y) {
                *x += y;
            }
        }
    }

    /// The backward pass of [`Dispatch::combine`]: writes the gate weights' gradients and returns `y`'s.
    pub(crate) fn split_gradient(
        &self,
        dx: &[f32],
        y: &[f32],
        weights: &[f32],
        dweights: &mut [f32],
        width: usize,
    ) -> Vec<f32> {
        let mut dy = Vec::with_capacity(y.len());
        for (&(row, index), y) in self.rows.iter().zip(y.chunks_exact(width)) {
            let dx = &dx[row * width..(row + 1) * width];
            dweights[index] = dx.iter().zip(y).map(|(d, y)| d * y).sum();
            dy.extend(dx.iter().map(|d| weights[index] * d));
        }
        dy
    }
}
