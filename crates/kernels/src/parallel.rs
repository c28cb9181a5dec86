//! Splitting work over threads. One place, so that the pool behind it can change.

use rayon::prelude::*;

/// Threads that kernels may use.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// Runs `task(i)` for every `i < count`, on all threads. Which thread runs which index is open,
/// so tasks must write to disjoint places and not depend on order.
pub fn parallel_for(count: usize, task: impl Fn(usize) + Sync + Send) {
    if count <= 1 || threads() == 1 {
        (0..count).for_each(task);
    } else {
        (0..count).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// Elements below which splitting costs more than it gains.
const SMALL: usize = 1 << 14;

/// Cuts `data` into chunks of a whole number of `row` elements and runs `task(first_row, chunk)` on
/// each, in parallel where it pays.
pub fn for_each_row_block(data: &mut [f32], row: usize, task: impl Fn(usize, &mut [f32]) + Sync) {
    if row == 0 || data.is_empty() {
        return;
    }
    let rows = data.len() / row;
    if data.len() < SMALL || threads() == 1 {
        task(0, data);
        return;
    }
    let block = rows.div_ceil(threads() * 4).max(1);
    data.par_chunks_mut(block * row)
        .enumerate()
        .for_each(|(index, chunk)| task(index * block, chunk));
}

/// Like [`for_each_row_block`] with rows of one element.
pub fn for_each_chunk(data: &mut [f32], task: impl Fn(usize, &mut [f32]) + Sync) {
    for_each_row_block(data, 1, task);
}

/// A pointer that several threads may write through, each to its own disjoint range.
#[derive(Clone, Copy)]
pub(crate) struct SharedMut(*mut f32);

// SAFETY: the pointer is only used inside `parallel_for` by tasks that write disjoint ranges.
unsafe impl Send for SharedMut {}
// SAFETY: as above.
unsafe impl Sync for SharedMut {}

impl SharedMut {
    pub(crate) fn new(data: &mut [f32]) -> Self {
        Self(data.as_mut_ptr())
    }

    /// # Safety
    /// `offset..offset + len` must lie inside the slice this was made from, and no other task may
    /// touch it while the returned slice lives.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &mut [f32] {
        // SAFETY: the caller promises bounds and exclusiveness.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset), len) }
    }

    pub(crate) fn pointer(self) -> *mut f32 {
        self.0
    }
}
