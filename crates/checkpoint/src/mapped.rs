//! A file mapped into memory, read-only: pages are read when they are touched and given back under pressure.
//!
//! For prepared data and other files that are published whole. Weights are not mapped while training and merging: their
//! pages would count as resident memory ([`crate::TensorFiles`] reads them at their places).

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::{CheckpointError, Result};

/// The bytes of a file.
#[derive(Debug)]
pub struct MappedFile(Mmap);

impl MappedFile {
    /// Maps a whole file; an empty one is refused by the system on some platforms.
    ///
    /// # Errors
    /// The file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(CheckpointError::io("open", path))?;
        // SAFETY: the mapping is private to this process and never written. Files are published by renaming a finished
        // one into place and never changed afterwards, so the bytes do not change underneath and the file does not
        // shrink; a program that truncates a published file all the same ends this one with SIGBUS.
        #[expect(unsafe_code, reason = "the house's one mapping")]
        let mapped = unsafe { Mmap::map(&file) }.map_err(CheckpointError::io("map", path))?;
        Ok(Self(mapped))
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    #[test]
    fn a_mapped_file_has_its_bytes_and_outlives_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, b"abc").unwrap();
        let mapped = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(mapped.as_ref(), b"abc");
        assert!(MappedFile::open(&path).unwrap_err().to_string().contains("a.bin"));
    }
}
