//! What the engine tells about itself while it works: events for histograms and counters, and its load at any moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::FinishReason;

/// Is told what happens, when it happens, on the engine's thread: whatever it does delays the next step.
pub trait Observer: Send + Sync {
    /// A sequence begins after it has waited this long for its place in the batch; so many of its prompt's tokens are
    /// known from an earlier one.
    fn began(&self, _waited: Duration, _cached_tokens: usize) {}
    /// An answer's first token, this long after its request was submitted.
    fn first_token(&self, _since_submission: Duration) {}
    /// A further token, this long after the one before it.
    fn next_token(&self, _since_last: Duration) {}
    /// A forward pass was made.
    fn step(&self, _step: Step) {}
    /// An answer ended; an answer that nobody waited for any more ends as cancelled.
    fn finished(&self, _reason: FinishReason) {}
    /// A sequence ended because the model failed.
    fn failed(&self) {}
}

/// One forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Sequences that took part.
    pub sequences: usize,
    /// Prompt tokens read.
    pub prompt_tokens: usize,
    /// Answers' tokens read, each the one sampled in an earlier step.
    pub generated_tokens: usize,
}

/// How much the engine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Sequences in the batch.
    pub running: usize,
    /// Sequences that wait for a place in it.
    pub waiting: usize,
    /// Positions whose keys and values are held after the last step.
    pub cached_tokens: usize,
    /// Positions that a full batch of the longest sequences would hold.
    pub cache_limit: usize,
}

/// The observer and the counts behind [`Load`], shared by the handle and the thread.
#[derive(Default)]
pub(crate) struct Watch {
    observer: OnceLock<Arc<dyn Observer>>,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) cached_tokens: AtomicUsize,
}

struct Nobody;

impl Observer for Nobody {}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Later observers are not taken.
    pub(crate) fn set(&self, observer: Arc<dyn Observer>) {
        self.observer.get_or_init(|| observer);
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        match self.observer.get() {
            Some(observer) => observer.as_ref(),
            None => &Nobody,
        }
    }
}

/// Counts as one of something until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(crate) fn one(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
