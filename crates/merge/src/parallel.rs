//! The work queue of a merge. A tensor whose changes fit into one thread's share of the memory is merged by that thread
//! alone, from its files to the sink: threads do not wait for each other, and reading, computing and writing overlap.
//! Larger tensors are merged by all threads together, one after the other.
//!
//! Results arrive in any order. That changes no byte, because tensors are merged independently.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::sink::Sink;
use crate::tensor_merger::{TensorMerger, TensorResult};
use crate::tiles::Workspace;
use crate::{MergeError, Result};

/// Entries above which a tensor is always shared: one thread would still be busy with it when all others are done.
const SHARED_ENTRIES: usize = 1 << 26;

/// Merges the tensors at these indices of the plan into a sink. `done` is called on the calling thread.
///
/// # Errors
/// The first tensor, in the plan's order, among those that failed; after a failure no other tensor is begun.
pub(crate) fn merge_all(
    merger: &TensorMerger<'_>,
    indices: &[usize],
    sink: &dyn Sink,
    mut done: impl FnMut(usize, TensorResult),
) -> Result<()> {
    let threads = rayon::current_num_threads();
    let budget = merger.source.request.tile_budget;
    let (own, shared): (Vec<usize>, Vec<usize>) = indices.iter().partition(|&&index| {
        let tensor = &merger.source.tensors[index];
        let changes = tensor.delta_bytes();
        // Changes beyond the budget are not kept, so any number of such tensors may be in progress.
        let fits = changes <= budget / threads || changes > budget;
        threads == 1 || fits && tensor.entries() <= SHARED_ENTRIES
    });
    let next = AtomicUsize::new(0);
    let failure = std::thread::scope(|scope| {
        let (sender, inbox) = mpsc::channel();
        for _ in 0..threads.min(own.len()) {
            let (sender, own, next) = (sender.clone(), &own, &next);
            scope.spawn(move || {
                let mut workspace = Workspace::single_threaded(budget);
                while let Some(&index) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(&coming) = own.get(next.load(Ordering::Relaxed)) {
                        merger.source.prefetch(coming);
                    }
                    let result = merger.merge(index, sink, &mut workspace);
                    if result.is_err() {
                        next.store(own.len(), Ordering::Relaxed);
                    }
                    // The receiver lives as long as this scope.
                    let _ = sender.send((index, result));
                }
            });
        }
        drop(sender);
        let mut failure: Option<(usize, MergeError)> = None;
        for (index, result) in inbox {
            match result {
                Ok(result) => done(index, result),
                Err(error) if failure.as_ref().is_none_or(|(first, _)| index < *first) => {
                    failure = Some((index, error));
                }
                Err(_) => {}
            }
        }
        failure
    });
    if let Some((_, error)) = failure {
        return Err(error);
    }
    let mut workspace = Workspace::shared(budget);
    for (at, &index) in shared.iter().enumerate() {
        if let Some(&coming) = shared.get(at + 1) {
            merger.source.prefetch(coming);
        }
        done(index, merger.merge(index, sink, &mut workspace)?);
    }
    Ok(())
}
