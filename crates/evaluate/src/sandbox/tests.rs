//! Attempts at what programs must not be able to do. They need `python3`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::harness::{HARNESS, HarnessReport};
use super::*;
use crate::suites::CodeTask;

/// `None` (and the test passes empty) on a machine without Python.
fn sandbox() -> Option<Sandbox> {
    Sandbox::with_limits(SandboxLimits {
        wall_clock: Duration::from_secs(3),
        cpu_seconds: 2,
        ..SandboxLimits::default()
    })
    .ok()
}

fn run(sandbox: &Sandbox, body: &str) -> CodeVerdict {
    let code = format!(
        "import os, sys, time\ndef f():\n    {}\n    return 1",
        body.replace('\n', "\n    ")
    );
    sandbox
        .run(&SandboxJob {
            code,
            entry_point: "f".into(),
            tests: vec!["assert f() == 1".into()],
        })
        .unwrap()
}

#[test]
fn a_program_that_only_computes_passes() {
    let Some(sandbox) = sandbox() else { return };
    for body in [
        "pass",
        "print('noise' * 100000)",
        "import math, re, json, itertools, collections, datetime, random, string, functools, heapq, decimal",
        "open('note.txt', 'w').write('a file of its own')",
        "import threading",
    ] {
        assert_eq!(
            run(&sandbox, body),
            CodeVerdict::Passed,
            "{body}; {}",
            sandbox.protection()
        );
    }
    assert!(
        sandbox.protection().contains("limits on processor time"),
        "{}",
        sandbox.protection()
    );
}

#[test]
fn nothing_passes_without_its_tests() {
    let Some(sandbox) = sandbox() else { return };
    for body in [
        "os._exit(0)",
        "sys.exit(0)",
        "raise SystemExit",
        "os.write(1, b'{\"token\": \"x\", \"protection\": [], \"status\": \"passed\", \"message\": \"\"}')\nos._exit(0)",
        "return 2",
        "raise ValueError('no')",
    ] {
        assert!(run(&sandbox, body).failure().is_some(), "{body}");
    }
    let job = |code: &str, test: &str| SandboxJob {
        code: code.into(),
        entry_point: "f".into(),
        tests: vec![test.into()],
    };
    let defined = "def f(): return 1";
    for (job, words) in [
        (job("import sys; sys.exit(0)", "assert f()"), "SystemExit"),
        (job("def g(): return 1", "assert f()"), "no function `f`"),
        (job("def f(: return 1", "assert f()"), "SyntaxError"),
        (job("", "assert f()"), "no function `f`"),
        (job(defined, "assert True"), "does not call"),
        (job(defined, "f() == 1 and undefined"), "NameError"),
    ] {
        let failure = sandbox.run(&job).unwrap().failure().unwrap();
        assert!(failure.contains(words), "{failure}");
    }
}

#[test]
fn endless_programs_are_ended() {
    let Some(sandbox) = sandbox() else { return };
    // On a busy machine the wall clock may come first.
    let busy = run(&sandbox, "while True: pass");
    let ended = match &busy {
        CodeVerdict::Died(_) | CodeVerdict::TimedOut(_) => true,
        // the harness's own report of the processor limit, where it comes to make one
        CodeVerdict::Failed(why) => why.contains("processor time"),
        _ => false,
    };
    assert!(ended, "{busy:?}");
    assert_eq!(
        run(&sandbox, "time.sleep(60)"),
        CodeVerdict::TimedOut(Duration::from_secs(3))
    );
}

#[test]
fn memory_and_files_are_bounded() {
    let Some(sandbox) = sandbox() else { return };
    let failure = run(&sandbox, "x = bytearray(10 * 1024 ** 3)").failure().unwrap();
    assert!(failure.contains("MemoryError"), "{failure}");
    assert!(
        run(&sandbox, "open('big', 'wb').write(b'0' * 5_000_000)")
            .failure()
            .is_some()
    );
}

#[test]
fn no_processes_sockets_or_files_outside() {
    let Some(sandbox) = sandbox() else { return };
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let written = outside.path().join("written");
    for body in [
        "while True: os.fork()".to_owned(),
        "import subprocess\nsubprocess.run(['true'])".into(),
        "os.system('true') == 0 or sys.exit(1)".into(),
        "import socket\nsocket.create_connection(('127.0.0.1', 9))".into(),
        "import socket\nsocket.socket()".into(),
        format!("open({secret:?}).read()"),
        "open('/etc/passwd').read()".into(),
        format!("open({written:?}, 'w').write('x')"),
        format!("os.remove({secret:?})"),
        format!("os.rename({secret:?}, {written:?})"),
        "os.listdir('/')".into(),
        format!("os.kill({}, 9)", std::process::id()),
    ] {
        assert!(
            run(&sandbox, &body).failure().is_some(),
            "{body}; {}",
            sandbox.protection()
        );
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert!(!written.exists());
}

/// The kernel's protections work without Python's audit hook: the same attempts through ctypes' raw system calls, with
/// the hook removed from the harness.
#[test]
fn the_kernel_layers_hold_alone() {
    let Some(sandbox) = sandbox() else { return };
    if !(sandbox.protection().contains("seccomp") && sandbox.protection().contains("landlock")) {
        return;
    }
    let harness = HARNESS.replace("+ restrict_python(folder)", "");
    let attempt = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ndef f():\n    return (\
        libc.fork(), libc.socket(2, 1, 0), libc.open(b'/etc/passwd', 0), libc.kill(1, 9), libc.open(b'/tmp', 0))";
    let job = serde_json::json!({
        "code": attempt, "entry_point": "f", "tests": ["assert f() == (-1, -1, -1, -1, -1), f()"], "token": "t",
        "limits": {"cpu_seconds": 5, "memory_bytes": 512 << 20, "file_bytes": 1 << 20},
    });
    let folder = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(sandbox.python())
        .args(["-s", "-S", "-B", "-c", &harness])
        .current_dir(folder.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &job).unwrap();
    let output = child.wait_with_output().unwrap();
    let report: HarnessReport = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report.status.as_str(), report.message.as_str()), ("passed", ""));
}

#[test]
fn bundled_tasks_tell_right_from_wrong() {
    let tasks = CodeTask::bundled().unwrap();
    assert!(tasks.len() >= 40, "{}", tasks.len());
    let mut ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), tasks.len(), "every id once");
    for task in &tasks {
        assert!(
            task.tests.len() >= 3 && task.tests.iter().all(|test| test.contains(&task.entry_point)),
            "{}",
            task.id
        );
        assert!(task.prompt.contains(&task.entry_point), "{}", task.id);
    }
    let Some(sandbox) = sandbox() else { return };
    for task in &tasks {
        let program = task.clone().program();
        assert_eq!(
            sandbox.run(&program.job(&task.canonical)).unwrap(),
            CodeVerdict::Passed,
            "{}",
            task.id
        );
        let wrong = sandbox.run(&program.job(&task.wrong)).unwrap();
        assert!(
            matches!(&wrong, CodeVerdict::Failed(why) if why.starts_with("assert ")),
            "{}: {wrong:?}",
            task.id
        );
    }
}
