//! Counts the requests inside the engine, so that a request above the limit is refused before any work is done for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{EngineError, Result};

/// The capacity of the engine and how much of it is used.
#[derive(Debug)]
pub(crate) struct Admission {
    in_flight: AtomicUsize,
    limit: usize,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            in_flight: AtomicUsize::new(0),
            limit,
        })
    }

    /// Requests running and waiting.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Requests that may run and wait together.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Admits `count` requests, or none.
    pub(crate) fn try_acquire(self: &Arc<Self>, count: usize) -> Result<Permit> {
        self.in_flight
            .try_update(Ordering::AcqRel, Ordering::Acquire, |in_flight| {
                in_flight.checked_add(count).filter(|&total| total <= self.limit)
            })
            .map_err(|_| EngineError::Full { limit: self.limit })?;
        Ok(Permit {
            admission: Arc::clone(self),
            count,
        })
    }

    /// Admits `count` requests beyond the limit: for callers in the same process that bring a batch of known size.
    pub(crate) fn acquire(self: &Arc<Self>, count: usize) -> Permit {
        self.in_flight.fetch_add(count, Ordering::AcqRel);
        Permit {
            admission: Arc::clone(self),
            count,
        }
    }
}

/// Admits requests to the engine: acquired with [`crate::Engine::admit`] before a request is rendered, released when
/// the request ends or the permit is dropped.
#[derive(Debug)]
#[must_use = "dropping a permit releases its capacity"]
pub struct Permit {
    admission: Arc<Admission>,
    count: usize,
}

impl Permit {
    /// Splits off a permit for one request.
    pub(crate) fn split_one(&mut self) -> Option<Permit> {
        self.count = self.count.checked_sub(1)?;
        Some(Permit {
            admission: Arc::clone(&self.admission),
            count: 1,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.in_flight.fetch_sub(self.count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_acquired_whole_or_not_at_all_and_released() {
        let admission = Admission::new(3);
        let mut two = admission.try_acquire(2).ok();
        assert!(two.is_some());
        assert_eq!(admission.try_acquire(2).err(), Some(EngineError::Full { limit: 3 }));
        let one = two.as_mut().and_then(Permit::split_one);
        assert_eq!(admission.in_flight(), 2);
        drop(two);
        assert_eq!(admission.in_flight(), 1);
        drop(one);
        assert_eq!(admission.in_flight(), 0);
        assert!(admission.try_acquire(3).is_ok());
    }
}
