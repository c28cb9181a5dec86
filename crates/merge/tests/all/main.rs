//! The library's merges against float64 results computed elsewhere, and in memory against on disk. The program's tests
//! are in the repository's tests/merge.
#![expect(clippy::unwrap_used, reason = "tests fail loudly")]

use std::path::{Path, PathBuf};

mod expected;
mod in_memory;

/// A committed fixture.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}
