//! The rows of each micro-batch: a fresh `torch.randperm` for every epoch, so that any position can be
//! recomputed from its number alone.

use synapse_kernels::random::MersenneTwister;

/// Shuffles rows anew in every epoch and divides them into micro-batches.
#[derive(Debug, Clone)]
pub struct ShuffleSampler {
    rows: usize,
    batch: usize,
    seed: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl ShuffleSampler {
    /// Rows in micro-batches of `batch`.
    pub fn new(rows: usize, batch: usize, seed: u64) -> Self {
        Self {
            rows,
            batch,
            seed,
            epoch: None,
        }
    }

    /// Rows of micro-batch `index` of an epoch.
    pub fn micro_batch(&mut self, epoch: u64, index: u64) -> &[usize] {
        if self.epoch.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            let permutation = MersenneTwister::new(self.seed.wrapping_add(epoch)).permutation(self.rows);
            self.epoch = Some((epoch, permutation));
        }
        let order = self.epoch.as_ref().map_or(&[][..], |(_, order)| order);
        let first = (index as usize * self.batch).min(self.rows);
        &order[first..(first + self.batch).min(self.rows)]
    }
}
