//! Tests of the crate through its public interface, one module a subject.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod auxiliary_files;
mod card;
mod gguf;

use std::path::{Path, PathBuf};

/// A small model folder (`llama`, `qwen2` or `qwen3`) with its tokenizer, made from the checkpoint crate's GGUF fixture.
fn model_folder(name: &str, root: &Path) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../checkpoint/tests/fixtures");
    let folder = root.join(name);
    synapse_checkpoint::import_gguf(&fixtures.join(format!("{name}.gguf")), &folder).unwrap();
    folder
}
