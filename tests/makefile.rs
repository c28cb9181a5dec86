//! The Makefile finds the programs wherever cargo is told to put them.

use std::path::Path;
use std::process::Command;

use crate::support::repository;

/// The commands of `make quickstart`, which are printed and not run.
fn quickstart(prepare: impl FnOnce(&mut Command)) -> String {
    let mut make = Command::new("make");
    make.args(["-n", "quickstart"])
        .current_dir(repository())
        .env("CARGO", env!("CARGO"))
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        // make passes these to the makes that it starts
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL");
    prepare(&mut make);
    let output = make.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn runs_from(commands: &str, target: &Path) {
    let wanted = format!(
        "{}/release/synapse-train run pipelines/quickstart.yaml",
        target.display()
    );
    assert!(commands.contains(&wanted), "not `{wanted}`: {commands}");
}

#[test]
fn quickstart_runs_the_program_from_the_repository() {
    let home = tempfile::tempdir().unwrap();
    let commands = quickstart(|make| {
        make.env("CARGO_HOME", home.path());
    });
    runs_from(&commands, &repository().canonicalize().unwrap().join("target"));
}

#[test]
fn quickstart_runs_the_program_from_cargo_target_dir() {
    let elsewhere = tempfile::tempdir().unwrap();
    let commands = quickstart(|make| {
        make.env("CARGO_TARGET_DIR", elsewhere.path());
    });
    runs_from(&commands, elsewhere.path());
}

#[test]
fn quickstart_runs_the_program_from_a_configured_target_dir() {
    let (home, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = format!("[build]\ntarget-dir = {:?}\n", elsewhere.path());
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let commands = quickstart(|make| {
        make.env("CARGO_HOME", home.path());
    });
    runs_from(&commands, elsewhere.path());
}
