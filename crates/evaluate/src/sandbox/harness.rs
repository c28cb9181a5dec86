//! The interface to a sandboxed process: the harness, its input and its report.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The Python program that limits itself and then runs one program and its tests.
pub(super) const HARNESS: &str = include_str!("harness.py");

/// A program with the tests it has to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxJob {
    /// Python source.
    pub code: String,
    /// The function the tests call.
    pub entry_point: String,
    /// Statements, each of which calls the function and raises if it is wrong.
    pub tests: Vec<String>,
}

/// Resources of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxLimits {
    /// Wall-clock limit, after which the process tree is killed.
    pub wall_clock: Duration,
    /// Processor seconds.
    pub cpu_seconds: u64,
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Size of any file written, in bytes.
    pub file_bytes: u64,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            wall_clock: Duration::from_secs(10),
            cpu_seconds: 5,
            memory_bytes: 512 << 20,
            file_bytes: 1 << 20,
        }
    }
}

/// How harness processes are started.
#[derive(Debug, Clone)]
pub(super) struct Launcher {
    pub(super) python: PathBuf,
    /// The `unshare` program, where this user may create namespaces.
    pub(super) namespaces: Option<PathBuf>,
    pub(super) limits: SandboxLimits,
}

/// The harness's input, as JSON on its standard input.
#[derive(Serialize)]
pub(super) struct HarnessRequest<'a> {
    pub(super) code: &'a str,
    pub(super) entry_point: &'a str,
    pub(super) tests: &'a [String],
    pub(super) token: &'a str,
    pub(super) limits: HarnessLimits,
}

#[derive(Serialize)]
pub(super) struct HarnessLimits {
    pub(super) cpu_seconds: u64,
    pub(super) memory_bytes: u64,
    pub(super) file_bytes: u64,
}

/// The harness's report, as one line of JSON.
#[derive(Debug, Deserialize)]
pub(super) struct HarnessReport {
    pub(super) token: String,
    pub(super) protection: Vec<String>,
    pub(super) status: String,
    pub(super) message: String,
}
