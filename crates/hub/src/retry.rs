//! Retries: a request whose failure may be transient is sent again, with pauses that double, until the policy's limit.

use std::time::Duration;

use crate::error::{HubError, Result};

/// How often and at what intervals a request is repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetryPolicy {
    /// Pause after the first failure; it doubles with each further one.
    pub(crate) first_pause: Duration,
    /// Longest pause, even where the hub asks for a longer one.
    pub(crate) max_pause: Duration,
    /// Failures in a row before giving up.
    pub(crate) max_failures: u32,
    /// The same limit where the hub itself asks for a retry (`Retry-After`).
    pub(crate) max_failures_when_asked: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            max_pause: Duration::from_secs(120),
            max_failures: 5,
            max_failures_when_asked: 20,
        }
    }
}

/// A failure that may pass.
#[derive(Debug)]
pub(crate) struct Transient {
    pub(crate) reason: String,
    /// How long the hub asks to wait, from `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

impl Transient {
    /// A failure after which the hub asked for no particular pause.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_after: None,
        }
    }
}

/// The outcome of one attempt.
pub(crate) enum Attempt<T> {
    Done(T),
    /// The attempt made no progress.
    Failed(Transient),
    /// The attempt broke off after making progress, so counting starts again.
    Advanced(Transient),
}

impl RetryPolicy {
    /// Repeats `attempt` until it is done, the limit is reached, or it returns an error that no retry can mend.
    pub(crate) fn retry<T>(&self, url: &str, mut attempt: impl FnMut() -> Result<Attempt<T>>) -> Result<T> {
        let mut failures = 0;
        loop {
            let transient = match attempt()? {
                Attempt::Done(value) => return Ok(value),
                Attempt::Failed(transient) => {
                    failures += 1;
                    transient
                }
                Attempt::Advanced(transient) => {
                    failures = 0;
                    transient
                }
            };
            let limit = if transient.retry_after.is_some() {
                self.max_failures_when_asked
            } else {
                self.max_failures
            };
            if failures >= limit {
                return Err(HubError::Unreachable {
                    url: url.to_owned(),
                    reason: transient.reason,
                    attempts: failures,
                });
            }
            let doubled = self.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(10));
            let pause = if failures == 0 { Duration::ZERO } else { doubled };
            std::thread::sleep(transient.retry_after.unwrap_or(pause).min(self.max_pause));
        }
    }
}
