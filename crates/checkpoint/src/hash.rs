//! SHA-256 of bytes, files and sets of files, as lower-case hex.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{CheckpointError, Result};

/// SHA-256 of a file's content, read in pieces.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(CheckpointError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(CheckpointError::io("read", path))?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// SHA-256 of bytes.
#[must_use]
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// One hash over several files: of the lines "hash  file name", in the order given, as `sha256sum` prints them.
///
/// # Errors
/// A file cannot be read.
pub fn sha256_of_files<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<String> {
    let mut listing = String::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        listing.push_str(&format!("{}  {name}\n", sha256_file(path)?));
    }
    Ok(sha256_bytes(listing.as_bytes()))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
