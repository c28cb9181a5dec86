//! Which rows a micro-batch holds: `torch.randperm` anew for every epoch, so any position can be
//! found again from its number alone.

use synapse_kernels::random::MersenneTwister;

/// The order of rows over a run.
#[derive(Debug, Clone)]
pub struct RowOrder {
    rows: usize,
    batch: usize,
    seed: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl RowOrder {
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
