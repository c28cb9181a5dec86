//! Who merges which tensor. A tensor whose changes fit into one thread's share of the memory is merged by that thread
//! alone, from its files to the sink, while the others have tensors of their own: nobody waits for anybody, and reading,
//! computing and writing overlap. What is larger is swept by all threads together, one tensor after the other.
//!
//! Outcomes arrive in whatever order they are done. That changes no byte: tensors know nothing of each other here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::engine::{Engine, Outcome};
use crate::sink::Sink;
use crate::tiles::Room;
use crate::{MergeError, Result};

/// Entries above which a tensor is shared whatever it takes to keep: one thread would still be at it when all others
/// are done.
const SHARED_ENTRIES: usize = 1 << 26;

/// Merges the tensors at these indices of the plan into a sink. The calling thread, and no other, hears of each.
///
/// # Errors
/// The first tensor, in the plan's order, among those that failed; after a failure no other tensor is begun.
pub(crate) fn merge_all(
    engine: &Engine<'_>,
    indices: &[usize],
    sink: &dyn Sink,
    mut done: impl FnMut(usize, Outcome),
) -> Result<()> {
    let threads = rayon::current_num_threads();
    let budget = engine.request.tile_budget;
    let (own, shared): (Vec<usize>, Vec<usize>) = indices.iter().partition(|&&index| {
        let entries: usize = engine.plans[index].shape.iter().product();
        let changes = engine.changes(index);
        // Beyond the budget nothing is kept, so any number of such tensors may be under way.
        let fits = changes <= budget / threads || changes > budget;
        threads == 1 || fits && entries <= SHARED_ENTRIES
    });
    let next = AtomicUsize::new(0);
    let failure = std::thread::scope(|scope| {
        let (sender, inbox) = mpsc::channel();
        for _ in 0..threads.min(own.len()) {
            let (sender, own, next) = (sender.clone(), &own, &next);
            scope.spawn(move || {
                let mut room = Room::alone(budget);
                while let Some(&index) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(&coming) = own.get(next.load(Ordering::Relaxed)) {
                        engine.announce(coming);
                    }
                    let outcome = engine.merge(index, sink, &mut room);
                    if outcome.is_err() {
                        next.store(own.len(), Ordering::Relaxed);
                    }
                    // The receiver lives as long as this scope.
                    let _ = sender.send((index, outcome));
                }
            });
        }
        drop(sender);
        let mut failure: Option<(usize, MergeError)> = None;
        for (index, outcome) in inbox {
            match outcome {
                Ok(outcome) => done(index, outcome),
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
    let mut room = Room::shared(budget);
    for (at, &index) in shared.iter().enumerate() {
        if let Some(&coming) = shared.get(at + 1) {
            engine.announce(coming);
        }
        done(index, engine.merge(index, sink, &mut room)?);
    }
    Ok(())
}
