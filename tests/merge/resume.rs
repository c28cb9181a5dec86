//! A merge that is killed goes on where it was and ends with the same bytes; a full disk leaves the target alone.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::models::{self, Shape};
use super::support::Workplace;

/// Large enough for a kill to land in the middle.
const SHAPE: Shape = Shape {
    layers: 12,
    hidden: 128,
    mlp: 512,
};
const INPUTS: [&str; 12] = [
    "--method", "ties", "--trim", "0.7", "--base", "base", "--model", "a", "--model", "b", "--model", "c",
];

fn place() -> Workplace {
    let workplace = Workplace::empty();
    models::write(&workplace.path("base"), SHAPE, 1, None);
    for (seed, name) in [(2, "a"), (3, "b"), (4, "c")] {
        models::write(
            &workplace.path(name),
            SHAPE,
            seed,
            Some((&workplace.path("base"), 0.02)),
        );
    }
    workplace
}

/// Starts the merge on some threads and kills it when its journal has this many lines. False when it was done before
/// that.
fn killed_at(workplace: &Workplace, threads: usize, lines: usize) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_synapse-merge"))
        .args(INPUTS)
        .args(["--out", "out", "--out-shard-size", "2MB"])
        .current_dir(workplace.path(""))
        .env("SYNAPSE_MERGE_SYNC_MS", "0")
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = workplace.path(".out.partial/journal.jsonl");
    loop {
        let written = fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
        if written >= lines {
            child.kill().unwrap();
        }
        if child.try_wait().unwrap().is_some() {
            return written >= lines;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn ten_kill_points_and_the_same_bytes() {
    let workplace = place();
    let all: Vec<&str> = INPUTS
        .iter()
        .copied()
        .chain(["--out", "whole", "--out-shard-size", "2MB"])
        .collect();
    workplace.run(&all).exits(0);
    let whole = workplace.hashes("whole");
    let mut went_on = 0;
    for point in 0..10 {
        let _ = fs::remove_dir_all(workplace.path("out"));
        let killed = killed_at(&workplace, 1 + point % 3, 1 + 10 * point);
        assert_eq!(
            workplace.path("out").exists(),
            !killed || workplace.path("out").exists()
        );
        let again: Vec<&str> = INPUTS
            .iter()
            .copied()
            .chain(["--out", "out", "--out-shard-size", "2MB"])
            .collect();
        let ran = workplace.run(&again).exits(0);
        went_on += usize::from(ran.stderr().contains("resuming an interrupted merge"));
        assert_eq!(workplace.hashes("out"), whole, "kill point {point}");
        assert!(!workplace.path(".out.partial").exists());
    }
    assert!(went_on > 0, "not one of ten kills left something to go on with");
}

#[test]
fn another_merge_does_not_go_on() {
    let workplace = place();
    if !killed_at(&workplace, 1, 20) {
        return;
    }
    let other = [
        "--method", "ties", "--trim", "0.5", "--base", "base", "--model", "a", "--model", "b", "--out", "out",
    ];
    let ran = workplace.run(&other).exits(0);
    assert!(!ran.stderr().contains("resuming"));
    let first = workplace.hashes("out");
    let fresh: Vec<&str> = other[..10].iter().copied().chain(["--out", "fresh"]).collect();
    workplace.run(&fresh).exits(0);
    assert_eq!(workplace.hashes("fresh"), first);
}

/// The shell's limit on file sizes stands for a disk that ends too early; ignoring its signal makes it an error.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_before_any_work() {
    let workplace = place();
    workplace
        .run(&["--method", "linear", "--model", "a", "--out", "out"])
        .exits(0);
    let before = workplace.hashes("out");
    let output = Command::new("bash")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 1000; exec \"$@\"",
            "-",
            env!("CARGO_BIN_EXE_synapse-merge"),
        ])
        .args(INPUTS)
        .args(["--out", "out"])
        .current_dir(workplace.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("could not reserve space for") && said.contains("model.safetensors"),
        "{said}"
    );
    assert_eq!(workplace.hashes("out"), before);
    assert!(!workplace.path(".out.partial").exists());
}
