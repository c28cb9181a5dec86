//! Starting the harness, waiting for it, and killing its remaining processes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::harness::{HARNESS, HarnessLimits, HarnessReport, HarnessRequest, Launcher, SandboxJob};
use crate::{EvaluateError, Result};

/// Maximum length of a report; further output is not read.
const LONGEST_REPORT: u64 = 64 << 10;
/// Interval of polling the child.
const POLL: Duration = Duration::from_millis(2);

/// How a run ended.
pub(super) enum ProcessEnd {
    Reported(HarnessReport),
    /// Without a report; the text says how.
    Silent(String),
    /// Killed at the wall-clock limit.
    Killed,
}

/// The real interpreter behind `python3`: a shim or wrapper would not work in the cleared environment.
pub(super) fn find_python() -> Option<PathBuf> {
    let python = on_path("python3")?;
    let output = Command::new(python)
        .args(["-I", "-c", "import sys; print(sys.executable)"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    path.is_absolute().then_some(path)
}

pub(super) fn find_unshare() -> Option<PathBuf> {
    if cfg!(target_os = "linux") {
        on_path("unshare")
    } else {
        None
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let is_program = |path: &Path| {
        path.metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
}

pub(super) fn run(launcher: &Launcher, job: &SandboxJob, token: &str) -> Result<ProcessEnd> {
    let fault = |message| move |source| EvaluateError::Sandbox { message, source };
    let folder = tempfile::Builder::new().prefix("synapse-sandbox-").tempdir();
    let folder = folder.map_err(fault("cannot make a temporary folder"))?;
    let order = HarnessRequest {
        code: &job.code,
        entry_point: &job.entry_point,
        tests: &job.tests,
        token,
        limits: HarnessLimits {
            cpu_seconds: launcher.limits.cpu_seconds,
            memory_bytes: launcher.limits.memory_bytes,
            file_bytes: launcher.limits.file_bytes,
        },
    };
    let order = serde_json::to_vec(&order)
        .map_err(std::io::Error::from)
        .map_err(fault("cannot write the job"))?;

    let mut command = match &launcher.namespaces {
        Some(unshare) => {
            let mut command = Command::new(unshare);
            command.args([
                "--user",
                "--map-root-user",
                "--net",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
            ]);
            command.arg(&launcher.python);
            command
        }
        None => Command::new(&launcher.python),
    };
    // -s -S: no site packages, so that every machine gives the same score; -B: no .pyc files.
    command
        .args(["-s", "-S", "-B", "-c", HARNESS])
        .current_dir(folder.path())
        .env_clear()
        .envs([("LANG", "C.UTF-8"), ("PYTHONHASHSEED", "0"), ("PYTHONUTF8", "1")])
        .envs([("HOME", folder.path()), ("TMPDIR", folder.path())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    let mut tree = Tree {
        child: command.spawn().map_err(fault("cannot start python3"))?,
    };
    let deadline = Instant::now() + launcher.limits.wall_clock;

    let report = read_report(&mut tree.child);
    if let Some(mut input) = tree.child.stdin.take() {
        // The harness reads all of it first. If the harness has died, the missing report shows it.
        let _ = input.write_all(&order);
    }
    loop {
        if let Some(status) = tree.child.try_wait().map_err(fault("cannot wait for python3"))? {
            tree.kill();
            // The pipe is complete now, unless a stray process holds it open.
            let text = report.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
            return Ok(match serde_json::from_slice(&text) {
                Ok(report) => ProcessEnd::Reported(report),
                Err(_) => ProcessEnd::Silent(describe(status)),
            });
        }
        if Instant::now() >= deadline {
            return Ok(ProcessEnd::Killed);
        }
        std::thread::sleep(POLL);
    }
}

/// Reads the child's standard output on its own thread, so that a full pipe cannot block the time limit.
fn read_report(child: &mut Child) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // An unreadable pipe is an empty report.
            let _ = output.take(LONGEST_REPORT).read_to_end(&mut text);
            let _ = send.send(text);
        });
    }
    receive
}

fn describe(status: ExitStatus) -> String {
    // With namespaces, `unshare` passes the signal on as 128 + its number or by the same signal.
    match (
        status
            .signal()
            .or(status.code().filter(|code| *code > 128).map(|code| code - 128)),
        status.code(),
    ) {
        (Some(24), _) => "used up its processor time".into(),
        (Some(9), _) => "was killed".into(),
        (Some(11), _) => "crashed".into(),
        (Some(signal), _) => format!("ended by signal {signal}"),
        (None, Some(code)) => format!("exited with {code}"),
        (None, None) => "ended".into(),
    }
}

/// A child and all processes it started; killed and reaped on drop.
struct Tree {
    child: Child,
}

impl Tree {
    fn kill(&self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // an error means that the group has ended already
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill();
        let _ = self.child.wait();
    }
}
