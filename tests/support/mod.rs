//! A temporary root that looks like the repository, and the programs to run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// The repository's own folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A folder of its own for one test, with the repository's recipes, pipelines and small data in it.
pub(crate) struct Root {
    folder: TempDir,
}

impl Root {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for part in ["recipes", "pipelines", "data"] {
            copy_tree(&repository().join(part), &folder.path().join(part));
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command of `synapse-train` in this root, offline, with a cache of its own.
    pub(crate) fn train(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_synapse-train").as_ref(), arguments)
    }

    /// A command of `synapse-merge`.
    pub(crate) fn merge(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_synapse-merge").as_ref(), arguments)
    }

    fn program(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.path())
            .env("HF_HOME", self.join("hf"))
            .env("HF_HUB_OFFLINE", "1");
        command
    }

    /// Runs and expects success.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Output {
        expect(self.train(arguments).output().unwrap(), 0)
    }

    /// A tiny base with weights: two steps of full training from the bundled configuration, made once for all tests.
    pub(crate) fn base() -> PathBuf {
        static BASE: OnceLock<TempDir> = OnceLock::new();
        let kept = BASE.get_or_init(|| {
            // in a root of its own: which test comes first must not show in that test's folder
            let (kept, own) = (TempDir::new().unwrap(), Self::new());
            own.write("recipes/tiny.yaml", TINY_BASE);
            own.ok(&["run", "recipes/tiny.yaml"]);
            copy_tree(&own.join("outputs/tiny"), &kept.path().join("tiny"));
            kept
        });
        kept.path().join("tiny")
    }
}

const TINY_BASE: &str = "
name: tiny
pipeline: ../pipelines/specialist.yaml
base: { fresh: ../data/nano/fresh }
data: [{ dataset: ../data/nano/train/math.parquet, samples: 64 }]
held_out: 8
train: { method: full, max_steps: 2, batch_size: 4, gradient_accumulation: 1, max_seq_len: 256, learning_rate: 1.0e-3, seed: 1 }
evaluate: { suites: [held-out-loss] }
output: outputs/tiny
";

/// Checks an exit code and shows what the program said when it differs.
pub(crate) fn expect(output: Output, code: i32) -> Output {
    assert_eq!(
        output.status.code(),
        Some(code),
        "stdout:\n{}\nstderr:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Names left behind that a crash or refusal must not leave.
pub(crate) fn half_written(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".partial") {
            found.push(entry.path());
        }
        if entry.path().is_dir() {
            found.extend(half_written(&entry.path()));
        }
    }
    found
}
