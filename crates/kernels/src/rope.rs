//! Rotary position embedding in Hugging Face's layout: the two halves of a head are the coordinates of the rotated pairs
//! (Su et al. 2021; `rotate_half`).

use crate::parallel::for_each_row_block;

/// Cosines and sines of every position, `[positions, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct Table {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Table {
    /// The table for `positions` positions of the given inverse frequencies (`head_dim / 2` of them).
    pub fn new(inverse_frequencies: &[f32], positions: usize) -> Self {
        let half = inverse_frequencies.len();
        let angle = |i: usize| (i / half) as f32 * inverse_frequencies[i % half];
        let (cos, sin) = (0..positions * half).map(|i| (angle(i).cos(), angle(i).sin())).unzip();
        Self { cos, sin, half }
    }

    /// Positions covered.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Rotates every head of `x [t, heads * head_dim]` by its row's position.
    ///
    /// # Panics
    /// If a position is outside the table.
    pub fn rotate(&self, x: &mut [f32], width: usize, positions: &[u32]) {
        self.apply(x, width, positions, 1.0);
    }

    /// The backward pass: the rotation by the opposite angle.
    ///
    /// # Panics
    /// If a position is outside the table.
    pub fn rotate_back(&self, x: &mut [f32], width: usize, positions: &[u32]) {
        self.apply(x, width, positions, -1.0);
    }

    fn apply(&self, x: &mut [f32], width: usize, positions: &[u32], direction: f32) {
        let half = self.half;
        for_each_row_block(x, width, |first, block| {
            for (offset, row) in block.chunks_exact_mut(width).enumerate() {
                let start = positions[first + offset] as usize * half;
                let (cos, sin) = (&self.cos[start..start + half], &self.sin[start..start + half]);
                for head in row.chunks_exact_mut(2 * half) {
                    rotate_head(head, cos, sin, direction);
                }
            }
        });
    }
}

crate::isa::multiversion! {
    fn rotate_head(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) = rotate_head_body
}

#[inline(always)]
fn rotate_head_body(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (a, b, sin) = (*low, *high, direction * sin);
        *low = a * cos - b * sin;
        *high = b * cos + a * sin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotating_back_restores_the_input() {
        let table = Table::new(&[1.0, 0.1, 0.01, 0.001], 9);
        let original: Vec<f32> = (0..32).map(|i| i as f32 * 0.25 - 3.0).collect();
        let mut x = original.clone();
        table.rotate(&mut x, 16, &[8, 3]);
        assert_ne!(x, original);
        table.rotate_back(&mut x, 16, &[8, 3]);
        for (a, b) in x.iter().zip(&original) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}
