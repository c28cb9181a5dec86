//! What the engine reports while it works: events for histograms and counters, and its load at any moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::FinishReason;

/// Is called on the engine's thread when something happens. A slow observer delays the next step.
pub trait EngineObserver: Send + Sync {
    /// A sequence started after waiting this long in the queue. `_cached_tokens` of its prompt were in the prefix cache.
    fn started(&self, _queued: Duration, _cached_tokens: usize) {}
    /// The first token of a completion, this long after the request was submitted.
    fn first_token(&self, _since_submission: Duration) {}
    /// A further token, this long after the previous one.
    fn next_token(&self, _since_last: Duration) {}
    /// A forward pass was made.
    fn step(&self, _step: StepStats) {}
    /// A completion ended. If its receiver was dropped, it ends as cancelled.
    fn finished(&self, _reason: FinishReason) {}
    /// A sequence ended because the model failed.
    fn failed(&self) {}
}

/// One forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepStats {
    /// Sequences in the batch.
    pub sequences: usize,
    /// Prompt tokens read.
    pub prompt_tokens: usize,
    /// Generated tokens read, each sampled in an earlier step.
    pub generated_tokens: usize,
}

/// What the engine holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLoad {
    /// Sequences in the batch.
    pub running: usize,
    /// Sequences in the queue.
    pub waiting: usize,
    /// Positions whose keys and values are held after the last step.
    pub cached_tokens: usize,
    /// Positions that a full batch of the longest sequences would hold.
    pub cache_limit: usize,
}

/// The observer and the gauges behind [`EngineLoad`], shared by the handle and the engine's thread.
#[derive(Default)]
pub(crate) struct EngineMetrics {
    observer: OnceLock<Arc<dyn EngineObserver>>,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) cached_tokens: AtomicUsize,
}

struct NullObserver;

impl EngineObserver for NullObserver {}

impl std::fmt::Debug for EngineMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineMetrics").finish_non_exhaustive()
    }
}

impl EngineMetrics {
    /// Sets the observer; only the first call has an effect.
    pub(crate) fn set_observer(&self, observer: Arc<dyn EngineObserver>) {
        self.observer.get_or_init(|| observer);
    }

    pub(crate) fn observer(&self) -> &dyn EngineObserver {
        match self.observer.get() {
            Some(observer) => observer.as_ref(),
            None => &NullObserver,
        }
    }
}

/// Adds one to a gauge until it is dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard(Arc<AtomicUsize>);

impl GaugeGuard {
    pub(crate) fn new(gauge: &Arc<AtomicUsize>) -> Self {
        gauge.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(gauge))
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
