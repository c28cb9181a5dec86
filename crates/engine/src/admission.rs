//! Counts the requests inside the engine, so that one too many is refused before any work is done for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{EngineError, Result};

/// The places there are and how many are taken.
#[derive(Debug)]
pub(crate) struct Admission {
    taken: AtomicUsize,
    limit: usize,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit,
        })
    }

    /// Requests running and waiting.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Places there are.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes `count` places, or none.
    pub(crate) fn try_take(self: &Arc<Self>, count: usize) -> Result<Permits> {
        self.taken
            .try_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                taken.checked_add(count).filter(|&total| total <= self.limit)
            })
            .map_err(|_| EngineError::Full { limit: self.limit })?;
        Ok(Permits {
            admission: Arc::clone(self),
            count,
        })
    }

    /// Takes `count` places whether there are any or not: for callers in the same process that bring a
    /// batch of known size.
    pub(crate) fn take(self: &Arc<Self>, count: usize) -> Permits {
        self.taken.fetch_add(count, Ordering::AcqRel);
        Permits {
            admission: Arc::clone(self),
            count,
        }
    }
}

/// Places for requests, taken with [`crate::Engine::admit`] before a request is even rendered and given back
/// when the request ends or the permits are dropped.
#[derive(Debug)]
#[must_use = "dropping permits gives the places back"]
pub struct Permits {
    admission: Arc<Admission>,
    count: usize,
}

impl Permits {
    /// Takes one place out of these.
    pub(crate) fn split_one(&mut self) -> Option<Permits> {
        self.count = self.count.checked_sub(1)?;
        Some(Permits {
            admission: Arc::clone(&self.admission),
            count: 1,
        })
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.admission.taken.fetch_sub(self.count, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_whole_or_not_at_all_and_come_back() {
        let admission = Admission::new(3);
        let mut two = admission.try_take(2).ok();
        assert!(two.is_some());
        assert_eq!(admission.try_take(2).err(), Some(EngineError::Full { limit: 3 }));
        let one = two.as_mut().and_then(Permits::split_one);
        assert_eq!(admission.taken(), 2);
        drop(two);
        assert_eq!(admission.taken(), 1);
        drop(one);
        assert_eq!(admission.taken(), 0);
        assert!(admission.try_take(3).is_ok());
    }
}
