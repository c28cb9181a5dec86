//! Reading the front part of a GGUF file in order, with every length checked against what the file still holds before
//! anything is allocated for it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::error::{CheckpointError, Result};

pub(super) struct Cursor<'a> {
    reader: BufReader<File>,
    path: &'a Path,
    position: u64,
    length: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: File, path: &'a Path, length: u64) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, file),
            path,
            position: 0,
            length,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Fails unless the file still holds `bytes`.
    pub(super) fn expect(&self, bytes: u64) -> Result<()> {
        let end = self.position.saturating_add(bytes);
        if end <= self.length {
            Ok(())
        } else {
            Err(CheckpointError::Length {
                path: self.path.to_owned(),
                expected: end,
                actual: self.length,
            })
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.expect(bytes.len() as u64)?;
        self.reader
            .read_exact(bytes)
            .map_err(CheckpointError::io("read", self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length-prefixed UTF-8 string; `what` names it in errors.
    pub(super) fn string(&mut self, what: &str) -> Result<String> {
        let length = self.u64()?;
        self.expect(length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| {
            CheckpointError::format(
                self.path,
                format!("{what} is not UTF-8 text (before byte {})", self.position),
            )
        })
    }
}
