//! Reserves capacity in the engine for a request before any work is done for it.

use synapse_engine::{Engine, EventReceiver, Permit, Request};

use crate::drain::InFlightGuard;
use crate::error::ApiError;

/// The engine's permit for all completions of a request and its place among the requests in flight, held until the last
/// of them is submitted.
#[derive(Debug)]
pub(crate) struct Reservation {
    permit: Permit,
    guard: InFlightGuard,
}

impl Reservation {
    /// Reserves capacity for `completions`, and for `drafts` that are generated before them. `param` is the field of the
    /// prompts, for errors.
    pub(crate) fn new(
        engine: &Engine,
        completions: usize,
        drafts: usize,
        param: &str,
        guard: InFlightGuard,
    ) -> Result<Self, ApiError> {
        let total = completions + drafts;
        let capacity = engine.capacity();
        if total > capacity {
            // Waiting would not help.
            let with = if drafts == 0 { "" } else { " plus the swarm's drafts" };
            let problem = format!(
                "times the number of prompts{with} is {total}, which exceeds this server's capacity of {capacity}"
            );
            return Err(ApiError::field("n", problem));
        }
        let permit = engine
            .admit(total)
            .map_err(|error| ApiError::from_engine(&error, param))?;
        Ok(Self { permit, guard })
    }

    /// Submits requests under the permit.
    pub(crate) fn submit(
        &mut self,
        engine: &Engine,
        requests: Vec<Request>,
        param: &str,
    ) -> Result<(Vec<EventReceiver>, InFlightGuard), ApiError> {
        let receivers = engine
            .submit_batch(requests, &mut self.permit)
            .map_err(|error| ApiError::from_engine(&error, param))?;
        Ok((receivers, self.guard.clone()))
    }
}
