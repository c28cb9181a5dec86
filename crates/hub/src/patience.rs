//! Waiting out failures that may pass, for as long as something suggests that they will.

use std::time::Duration;

use crate::error::{HubError, Result};

/// How long failures are waited out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Pause after the first failure; it doubles with each further one.
    pub(crate) first: Duration,
    /// Longest pause, also when the hub asks for more.
    pub(crate) longest: Duration,
    /// Failures in a row before giving up, when the hub does not say that it will recover.
    pub(crate) attempts: u32,
    /// The same when the hub asks to be asked again.
    pub(crate) invited: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(120),
            attempts: 5,
            invited: 20,
        }
    }
}

/// A failure that may pass.
#[derive(Debug)]
pub(crate) struct Setback {
    pub(crate) reason: String,
    /// The hub's own wish, from Retry-After.
    pub(crate) wait: Option<Duration>,
}

/// The outcome of one try.
pub(crate) enum Attempt<T> {
    Done(T),
    /// Nothing was gained.
    Failed(Setback),
    /// It broke off, but further along than before, so patience starts anew.
    Advanced(Setback),
}

impl Patience {
    /// Tries until it works, patience ends, or an error says that waiting will not help.
    pub(crate) fn wait_out<T>(&self, url: &str, mut attempt: impl FnMut() -> Result<Attempt<T>>) -> Result<T> {
        let mut failures = 0;
        loop {
            let setback = match attempt()? {
                Attempt::Done(value) => return Ok(value),
                Attempt::Failed(setback) => {
                    failures += 1;
                    setback
                }
                Attempt::Advanced(setback) => {
                    failures = 0;
                    setback
                }
            };
            let most = if setback.wait.is_some() {
                self.invited
            } else {
                self.attempts
            };
            if failures >= most {
                return Err(HubError::Unreachable {
                    url: url.to_owned(),
                    reason: setback.reason,
                    attempts: failures,
                });
            }
            let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(10));
            let pause = if failures == 0 { Duration::ZERO } else { doubled };
            std::thread::sleep(setback.wait.unwrap_or(pause).min(self.longest));
        }
    }
}
