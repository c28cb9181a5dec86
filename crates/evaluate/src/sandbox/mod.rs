//! Runs programs that a model wrote, so that they can neither harm nor hang the machine.
//!
//! Every program gets its own `python3` process: own process group, empty temporary folder, cleared environment, hard
//! limits on processor time, memory, file size and processes, and a wall clock that ends in killing the whole tree.
//! On top come user, network, process and IPC namespaces (through `unshare`), Landlock on files and seccomp on system
//! calls, wherever the kernel lets an unprivileged user have them, and a Python audit hook everywhere. Which of
//! these are active is found out by a trial run and said with every score.
//!
//! A program passes only if the harness reports, under a token made for this run, that every test ran to its end and
//! called the function: exiting early, or printing, cannot pass. This guards against what models write by accident
//! or habit; it is no jail for an attacker who knows the harness.

#[cfg(unix)]
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;

/// Runs one program; puts the limits on itself first.
const HARNESS: &str = include_str!("harness.py");

/// A program with the tests it has to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Python source.
    pub code: String,
    /// The function the tests call.
    pub entry_point: String,
    /// Statements, each of which calls the function and raises if it is wrong.
    pub tests: Vec<String>,
}

/// How a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CodeVerdict {
    /// Every test ran and held.
    Passed,
    /// A test did not hold, or the program could not be run at all; says which and why.
    Failed(String),
    /// The process ended before its tests were done: exit, crash, a limit.
    Died(String),
    /// The wall clock ran out and the whole tree was killed.
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

/// What one program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the whole tree is killed.
    pub wall_clock: Duration,
    /// Processor seconds.
    pub cpu_seconds: u64,
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Size of any file written, in bytes.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall_clock: Duration::from_secs(10),
            cpu_seconds: 5,
            memory_bytes: 512 << 20,
            file_bytes: 1 << 20,
        }
    }
}

/// A way to run programs on this machine that has been tried out.
#[derive(Debug, Clone)]
pub struct Sandbox {
    python: PathBuf,
    /// The `unshare` program, where this user may make namespaces.
    namespaces: Option<PathBuf>,
    limits: Limits,
    protection: String,
}

impl Sandbox {
    /// Finds `python3` and the protections this machine allows, by running a trivial program through all of them.
    ///
    /// # Errors
    /// Why programs cannot be run here, in words for a table's footnote: there is no `python3`, or it does not start.
    pub fn detect() -> std::result::Result<Self, String> {
        Self::with_limits(Limits::default())
    }

    /// As [`Sandbox::detect`], with limits of one's own.
    ///
    /// # Errors
    /// Why programs cannot be run here.
    #[cfg(unix)]
    pub fn with_limits(limits: Limits) -> std::result::Result<Self, String> {
        let python = process::find_python().ok_or("no python3 on this machine, so code is not run")?;
        let mut sandbox = Self {
            python,
            namespaces: process::find_unshare(),
            limits,
            protection: String::new(),
        };
        let mut tried = sandbox.trial();
        if tried.is_err() && sandbox.namespaces.take().is_some() {
            tried = sandbox.trial();
        }
        let mut active =
            tried.map_err(|why| format!("python3 does not run in the sandbox, so code is not run: {why}"))?;
        if sandbox.namespaces.is_some() {
            active.insert(0, "namespaces (user, network, process, IPC)".to_owned());
        }
        active.push(format!("killed after {} s", limits.wall_clock.as_secs_f64()));
        sandbox.protection = active.join("; ");
        Ok(sandbox)
    }

    /// Programs are only run where processes have groups and limits.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub fn with_limits(_limits: Limits) -> std::result::Result<Self, String> {
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
        &self.python
    }

    /// Runs one program to its verdict.
    ///
    /// # Errors
    /// [`crate::EvaluateError::Sandbox`] when the process cannot be started at all; never because of the program.
    #[cfg(unix)]
    pub fn run(&self, job: &Job) -> Result<CodeVerdict> {
        let token = format!("{:032x}", rand::random::<u128>());
        Ok(match process::run(self, job, &token)? {
            process::Ended::Reported(report) if report.token == token => match report.status.as_str() {
                "passed" => CodeVerdict::Passed,
                _ => CodeVerdict::Failed(report.message),
            },
            process::Ended::Reported(_) => CodeVerdict::Died("ended with a report that is not the harness's".into()),
            process::Ended::Silent(how) => CodeVerdict::Died(format!("{how} before its tests were done")),
            process::Ended::Killed => CodeVerdict::TimedOut(self.limits.wall_clock),
        })
    }

    /// Never called: there is no sandbox to call it on.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(unix))]
    pub fn run(&self, _job: &Job) -> Result<CodeVerdict> {
        Ok(CodeVerdict::Died("code is only run on Unix-like systems".into()))
    }

    #[cfg(unix)]
    fn trial(&self) -> std::result::Result<Vec<String>, String> {
        let job = Job {
            code: "def f(): return 1".into(),
            entry_point: "f".into(),
            tests: vec!["assert f() == 1".into()],
        };
        match process::run(self, &job, "trial").map_err(|error| error.to_string())? {
            process::Ended::Reported(report) if report.status == "passed" => Ok(report.protection),
            process::Ended::Reported(report) => Err(report.message),
            process::Ended::Silent(how) => Err(how),
            process::Ended::Killed => Err("it hangs".into()),
        }
    }
}

/// What the harness is told, as JSON on its standard input.
#[derive(Serialize)]
struct Order<'a> {
    code: &'a str,
    entry_point: &'a str,
    tests: &'a [String],
    token: &'a str,
    limits: OrderedLimits,
}

#[derive(Serialize)]
struct OrderedLimits {
    cpu_seconds: u64,
    memory_bytes: u64,
    file_bytes: u64,
}

/// What the harness answers, as one line of JSON.
#[derive(Debug, Deserialize)]
struct Report {
    token: String,
    protection: Vec<String>,
    status: String,
    message: String,
}

#[cfg(all(test, unix))]
mod tests;
