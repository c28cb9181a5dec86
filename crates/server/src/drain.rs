//! Counts the requests in flight, so that a server that stops can wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The number of requests in flight, and whether new ones are accepted.
#[derive(Debug)]
pub(crate) struct InFlight {
    count: Arc<watch::Sender<usize>>,
    draining: AtomicBool,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            count: Arc::new(watch::Sender::new(0)),
            draining: AtomicBool::new(false),
        }
    }
}

impl InFlight {
    /// Stops accepting requests.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn enter(&self) -> InFlightGuard {
        InFlightGuard::new(&self.count)
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until no request is in flight.
    pub(crate) async fn finished(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// A request in flight; draining waits until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    count: Arc<watch::Sender<usize>>,
}

impl InFlightGuard {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self {
            count: Arc::clone(count),
        }
    }
}

/// A clone counts another part of the same request.
impl Clone for InFlightGuard {
    fn clone(&self) -> Self {
        Self::new(&self.count)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count -= 1);
    }
}
