//! Runs programs that a model wrote, without letting them harm or hang the machine.
//!
//! Every program gets its own `python3` process: its own process group, an empty temporary folder, a cleared environment,
//! hard limits on processor time, memory, file size and processes, and a wall-clock limit that kills the whole process
//! tree. User, network, process and IPC namespaces (through `unshare`), Landlock for files and seccomp for system calls
//! are added if the kernel grants them to an unprivileged user, and a Python audit hook always. A trial run determines
//! which of these are active, and every score states them.
//!
//! A program passes only if the harness reports, with a token made for this run, that every test ran to its end and
//! called the function. Exiting early or printing does not pass.
//!
//! What this is not: protection against an attacker who knows the harness. It guards against what models write by
//! accident or habit.

mod harness;
#[cfg(unix)]
mod process;

use std::path::Path;
use std::time::Duration;

use harness::Launcher;
pub use harness::{SandboxJob, SandboxLimits};

use crate::Result;

/// The result of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeVerdict {
    /// Every test ran and passed.
    Passed,
    /// A test failed, or the program could not be run at all; says which and why.
    Failed(String),
    /// The process ended before its tests were finished: exit, crash, a limit.
    Died(String),
    /// The wall-clock limit was reached and the process tree was killed.
    TimedOut(Duration),
}

impl CodeVerdict {
    /// `None` if it passed, else why not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Passed => None,
            Self::Failed(why) | Self::Died(why) => Some(why.clone()),
            Self::TimedOut(limit) => Some(format!("not done after {} s", limit.as_secs_f64())),
        }
    }
}

/// A tested way to run programs on this machine.
#[derive(Debug, Clone)]
pub struct Sandbox {
    launcher: Launcher,
    protection: String,
}

impl Sandbox {
    /// Finds `python3` and the protections this machine allows, by running a trivial program through all of them.
    ///
    /// # Errors
    /// Why programs cannot be run here, in words for a table's footnote: there is no `python3`, or it does not start.
    pub fn detect() -> std::result::Result<Self, String> {
        Self::with_limits(SandboxLimits::default())
    }

    /// As [`Sandbox::detect`], with other limits.
    ///
    /// # Errors
    /// Why programs cannot be run here.
    #[cfg(unix)]
    pub fn with_limits(limits: SandboxLimits) -> std::result::Result<Self, String> {
        let python = process::find_python().ok_or("no python3 on this machine, so code is not run")?;
        let mut sandbox = Self {
            launcher: Launcher {
                python,
                namespaces: process::find_unshare(),
                limits,
            },
            protection: String::new(),
        };
        let mut tried = sandbox.trial();
        if tried.is_err() && sandbox.launcher.namespaces.take().is_some() {
            tried = sandbox.trial();
        }
        let mut active =
            tried.map_err(|why| format!("python3 does not run in the sandbox, so code is not run: {why}"))?;
        if sandbox.launcher.namespaces.is_some() {
            active.insert(0, "namespaces (user, network, process, IPC)".to_owned());
        }
        active.push(format!("killed after {} s", limits.wall_clock.as_secs_f64()));
        sandbox.protection = active.join("; ");
        Ok(sandbox)
    }

    /// Programs are only run on systems with process groups and limits.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub fn with_limits(_limits: SandboxLimits) -> std::result::Result<Self, String> {
        Err("code is only run on Unix-like systems".into())
    }

    /// The protections that are active, for the footnote of a score.
    #[must_use]
    pub fn protection(&self) -> &str {
        &self.protection
    }

    /// The interpreter.
    #[must_use]
    pub fn python(&self) -> &Path {
        &self.launcher.python
    }

    /// Runs one program.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Sandbox`] when the process cannot be started at all; never because of the program.
    #[cfg(unix)]
    pub fn run(&self, job: &SandboxJob) -> Result<CodeVerdict> {
        let token = format!("{:032x}", rand::random::<u128>());
        Ok(match process::run(&self.launcher, job, &token)? {
            process::ProcessEnd::Reported(report) if report.token == token => match report.status.as_str() {
                "passed" => CodeVerdict::Passed,
                _ => CodeVerdict::Failed(report.message),
            },
            process::ProcessEnd::Reported(_) => {
                CodeVerdict::Died("ended with a report that is not the harness's".into())
            }
            process::ProcessEnd::Silent(how) => CodeVerdict::Died(format!("{how} before its tests were done")),
            process::ProcessEnd::Killed => CodeVerdict::TimedOut(self.launcher.limits.wall_clock),
        })
    }

    /// Never called: there is no sandbox to call it on.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(unix))]
    pub fn run(&self, _job: &SandboxJob) -> Result<CodeVerdict> {
        Ok(CodeVerdict::Died("code is only run on Unix-like systems".into()))
    }

    #[cfg(unix)]
    fn trial(&self) -> std::result::Result<Vec<String>, String> {
        let job = SandboxJob {
            code: "def f(): return 1".into(),
            entry_point: "f".into(),
            tests: vec!["assert f() == 1".into()],
        };
        match process::run(&self.launcher, &job, "trial").map_err(|error| error.to_string())? {
            process::ProcessEnd::Reported(report) if report.status == "passed" => Ok(report.protection),
            process::ProcessEnd::Reported(report) => Err(report.message),
            process::ProcessEnd::Silent(how) => Err(how),
            process::ProcessEnd::Killed => Err("it hangs".into()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests;
