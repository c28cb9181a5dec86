//! Splitting work over threads. Kernels use only this module, so that the pool behind it can change.

use std::{cell::Cell, marker::PhantomData};

use crate::pool::Pool;

thread_local! {
    /// Threads this thread may use; 0 for all.
    static LIMIT: Cell<usize> = const { Cell::new(0) };
}

/// Threads that kernels may use: one per core, or the number in `SYNAPSE_THREADS`.
pub fn threads() -> usize {
    match LIMIT.get() {
        0 => Pool::global().threads(),
        limit => limit,
    }
}

/// Runs `work` as if there were `count` threads: work is split for that number, and with 1 it stays on this thread.
/// Results never depend on the number of threads; tests use this to show it.
pub fn with_threads<T>(count: usize, work: impl FnOnce() -> T) -> T {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _restore = Restore(LIMIT.replace(count));
    work()
}

/// Runs `task(i)` for every `i < count`, on all threads. Any thread may run any index, so tasks must write to disjoint
/// places and must not depend on order.
pub fn parallel_for(count: usize, task: impl Fn(usize) + Sync) {
    if count <= 1 || threads() == 1 {
        (0..count).for_each(task);
    } else {
        Pool::global().run(count, &task);
    }
}

/// Below this number of elements splitting costs more than it gains.
const SMALL: usize = 1 << 14;

/// Cuts `data` into chunks of a whole number of `row` elements and runs `task(first_row, chunk)` on
/// each, in parallel if that is faster; an incomplete last row belongs to the last chunk.
pub fn for_each_row_block<T: Send>(data: &mut [T], row: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    if row == 0 || data.is_empty() {
        return;
    }
    let rows = data.len() / row;
    if data.len() < SMALL || rows < 2 || threads() == 1 {
        task(0, data);
        return;
    }
    let block = rows.div_ceil(threads() * 4);
    let len = data.len();
    let target = SharedMut::new(data);
    parallel_for(rows.div_ceil(block), |index| {
        let first = index * block * row;
        // the last block also has the incomplete last row
        let last = if (index + 1) * block >= rows {
            len
        } else {
            first + block * row
        };
        // SAFETY: the blocks are disjoint and inside the slice.
        task(index * block, unsafe { target.slice(first, last - first) });
    });
}

/// Cuts `data` at multiples of 64 and runs `task(first_element, chunk)` on each part, in parallel if that is faster.
pub fn for_each_chunk<T: Send>(data: &mut [T], task: impl Fn(usize, &mut [T]) + Sync) {
    const ROW: usize = 64;
    for_each_row_block(data, ROW, |first, chunk| task(first * ROW, chunk));
}

/// A pointer that several threads may write through, each to its own disjoint range.
pub(crate) struct SharedMut<'a, T = f32>(*mut T, PhantomData<&'a mut [T]>);

impl<T> Clone for SharedMut<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedMut<'_, T> {}

// SAFETY: the pointer is only used inside `parallel_for` by tasks that write disjoint ranges.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self(data.as_mut_ptr(), PhantomData)
    }

    /// # Safety
    /// `offset..offset + len` must lie inside the slice this was made from, and no other task may
    /// access it while the returned slice lives.
    #[expect(clippy::mut_from_ref, reason = "disjointness is guaranteed by the caller")]
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &mut [T] {
        // SAFETY: the caller promises bounds and exclusiveness.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset), len) }
    }

    pub(crate) fn pointer(self) -> *mut T {
        self.0
    }
}
