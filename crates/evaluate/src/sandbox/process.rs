//! Starting the harness, waiting for it, and killing whatever it left behind.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{HARNESS, Job, Order, OrderedLimits, Report, Sandbox};
use crate::{EvaluateError, Result};

/// More than any report has; the rest of a flood is not read.
const LONGEST_REPORT: u64 = 64 << 10;
/// How often the child is looked at.
const POLL: Duration = Duration::from_millis(2);

/// How a run ended.
pub(super) enum Ended {
    Reported(Report),
    /// Without a report; says how.
    Silent(String),
    /// By the wall clock.
    Killed,
}

/// The real interpreter behind `python3`: a shim or wrapper would not survive the cleared environment.
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

pub(super) fn run(sandbox: &Sandbox, job: &Job, token: &str) -> Result<Ended> {
    let fault = |message| move |source| EvaluateError::Sandbox { message, source };
    let folder = tempfile::Builder::new().prefix("synapse-sandbox-").tempdir();
    let folder = folder.map_err(fault("cannot make a temporary folder"))?;
    let order = Order {
        code: &job.code,
        entry_point: &job.entry_point,
        tests: &job.tests,
        token,
        limits: OrderedLimits {
            cpu_seconds: sandbox.limits.cpu_seconds,
            memory_bytes: sandbox.limits.memory_bytes,
            file_bytes: sandbox.limits.file_bytes,
        },
    };
    let order = serde_json::to_vec(&order)
        .map_err(std::io::Error::from)
        .map_err(fault("cannot write the job"))?;

    let mut command = match &sandbox.namespaces {
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
            command.arg(&sandbox.python);
            command
        }
        None => Command::new(&sandbox.python),
    };
    // -s -S: no site packages, so that every machine gives the same score; -B: nothing written beside modules.
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
    let deadline = Instant::now() + sandbox.limits.wall_clock;

    let report = read_report(&mut tree.child);
    if let Some(mut input) = tree.child.stdin.take() {
        // The harness reads all of it before anything else; if it died first, its silence says so.
        let _ = input.write_all(&order);
    }
    loop {
        if let Some(status) = tree.child.try_wait().map_err(fault("cannot wait for python3"))? {
            tree.kill();
            // The pipe is complete now, unless a stray process holds it open.
            let text = report.recv_timeout(Duration::from_millis(500)).unwrap_or_default();
            return Ok(match serde_json::from_slice(&text) {
                Ok(report) => Ended::Reported(report),
                Err(_) => Ended::Silent(describe(status)),
            });
        }
        if Instant::now() >= deadline {
            return Ok(Ended::Killed);
        }
        std::thread::sleep(POLL);
    }
}

/// Reads the child's standard output on a thread of its own, so that a full pipe can never block the clock.
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

/// A child and everything it started; dead and reaped when this goes.
struct Tree {
    child: Child,
}

impl Tree {
    fn kill(&self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // The group may be gone already, which is what is wanted.
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
