//! A fresh folder with the fixtures in it, and the command run there.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use synapse_checkpoint::sha256_file;

use crate::support::repository;

/// Where the committed fixtures are.
pub(crate) fn fixtures() -> PathBuf {
    repository().join("crates/merge/tests/fixtures")
}

/// A temporary working directory.
pub(crate) struct Workplace {
    root: tempfile::TempDir,
}

impl Workplace {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    /// One that holds copies of these fixture folders.
    pub(crate) fn with(folders: &[&str]) -> Self {
        let workplace = Self::empty();
        for folder in folders {
            copy(&fixtures().join(folder), &workplace.path(folder));
        }
        workplace
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a text file, with its folders.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// A text file's content.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces text in a file, which must contain it.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}:\n{text}");
        self.write(name, &text.replace(from, to));
    }

    /// Runs `synapse-merge` here without a hub to ask.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    /// The same with environment variables.
    pub(crate) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_synapse-merge"))
            .args(arguments)
            .current_dir(self.root.path())
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", self.path("hub-cache"))
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        Ran {
            command: arguments.join(" "),
            output,
        }
    }

    /// Name and sha256 of every file in a folder, one a line.
    pub(crate) fn hashes(&self, folder: &str) -> String {
        let mut names: Vec<_> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        let mut lines = String::new();
        for path in names {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            writeln!(lines, "{name} {}", sha256_file(&path).unwrap()).unwrap();
        }
        lines
    }

    /// Whether a method takes `--density`.
    pub(crate) fn knows_density(method: &str) -> bool {
        !matches!(method, "sce" | "model_stock" | "karcher" | "multislerp")
    }

    /// Everything directly here, sorted: what a failed command must not have added to.
    pub(crate) fn entries(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.root.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Copies a folder's files.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A finished command.
pub(crate) struct Ran {
    command: String,
    output: Output,
}

impl Ran {
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).unwrap()
    }

    /// Asserts the exit code.
    pub(crate) fn exits(self, code: i32) -> Self {
        let (command, stderr) = (&self.command, self.stderr());
        assert_eq!(
            self.output.status.code(),
            Some(code),
            "synapse-merge {command}\n{stderr}"
        );
        self
    }

    /// Asserts what stderr contains.
    pub(crate) fn says(self, text: &str) -> Self {
        let (command, stderr) = (&self.command, self.stderr());
        assert!(
            stderr.contains(text),
            "synapse-merge {command} does not say {text:?}:\n{stderr}"
        );
        self
    }
}
