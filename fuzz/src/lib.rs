//! What the fuzz targets share: a folder in memory for readers that take paths, the bundled model, and data preparation.
//!
//! Not for the targets themselves; each of those is a file in `fuzz_targets/` and holds the one call it tries.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use synapse_data::{PrepareRequest, SourceFiles, prepare};
use synapse_recipe::{DataPlan, SourcePlan, TrainPlan};
use synapse_tokenizer::ChatTokenizer;
use tempfile::TempDir;

/// The bundled model, relative to this crate.
#[must_use]
pub fn model() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../data/nano/base"))
}

/// A folder in memory, one per process.
#[must_use]
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let memory = Path::new("/dev/shm");
    let make = || {
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        tempfile::Builder::new().prefix("synapse-fuzz-").tempdir_in(parent).expect("a temporary folder")
    };
    FOLDER.get_or_init(make).path()
}

/// Writes the bytes to a file of this name in [`folder`].
#[must_use]
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("memory to write to");
    path
}

/// The bundled model's tokenizer and template.
#[must_use]
pub fn chat() -> &'static ChatTokenizer {
    static CHAT: OnceLock<ChatTokenizer> = OnceLock::new();
    CHAT.get_or_init(|| ChatTokenizer::open(model()).expect("the bundled tokenizer"))
}

/// Prepares one data file as a recipe would: read, normalized, tokenized, packed. Errors are as good as success.
pub fn prepare_rows(name: &str, bytes: &[u8]) {
    let path = file(name, bytes);
    let out = folder().join("prepared");
    let _ = std::fs::create_dir(&out);
    let plan = DataPlan { sources: vec![SourcePlan::file(&path)], ..DataPlan::default() };
    let files = SourceFiles::local(&path).expect("the file that was just written");
    let _ = prepare(
        &PrepareRequest {
            plan: &plan,
            train: &TrainPlan { max_seq_len: 128, ..TrainPlan::default() },
            system_prompt: None,
            files: vec![files],
            request_files: Vec::new(),
            benchmarks: &[],
            chat: chat(),
            out: &out,
        },
        &|_| (),
    );
    let _ = std::fs::remove_file(path);
}
