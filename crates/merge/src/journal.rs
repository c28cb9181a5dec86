//! The journal of a merge in progress: which tensors are on disk, so that an interrupted merge can be resumed.
//!
//! A line is written only after its data was synced. The first line holds a hash of the request and of
//! the stamps of every input file; the journal of another merge is discarded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synapse_checkpoint::write_atomic;

use crate::combine::Accumulators;
use crate::report::TensorReport;
use crate::{MergeError, Result};

/// Name of the file in the staging folder.
const FILE: &str = "journal.jsonl";
/// Raised when the meaning of a line, or of what was written before it, changes.
const FORMAT: u32 = 1;

/// A finished tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FinishedTensor {
    pub(crate) tensor: String,
    /// CRC-32 of its bytes.
    pub(crate) checksum: u32,
    /// Its sums and its report; `None` for a copy.
    pub(crate) merged: Option<(Accumulators, TensorReport)>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    version: String,
    merge: String,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// The finished tensors of the journal in a folder; `None` without a journal, or with that of another merge.
    pub(crate) fn read(folder: &Path, merge: &str) -> Option<BTreeMap<String, FinishedTensor>> {
        let text = fs::read_to_string(folder.join(FILE)).ok()?;
        let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let head: Head = serde_json::from_str(lines.next()?).ok()?;
        if head.format != FORMAT || head.version != env!("CARGO_PKG_VERSION") || head.merge != merge {
            return None;
        }
        // An incomplete last line is ignored.
        let finished = lines.map_while(|line| serde_json::from_str::<FinishedTensor>(line).ok());
        Some(finished.map(|finished| (finished.tensor.clone(), finished)).collect())
    }

    /// Starts a journal, or continues the one that [`Journal::read`] read.
    pub(crate) fn open(folder: &Path, merge: &str, resumed: &BTreeMap<String, FinishedTensor>) -> Result<Self> {
        let path = folder.join(FILE);
        let head = Head {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            merge: merge.to_owned(),
        };
        let mut text = serde_json::to_string(&head).unwrap_or_default() + "\n";
        for finished in resumed.values() {
            text += &line(finished);
        }
        write_atomic(&path, text.as_bytes())?;
        let file = File::options()
            .append(true)
            .open(&path)
            .map_err(MergeError::file("open", &path))?;
        Ok(Self { path, file })
    }

    /// Adds tensors whose data has been synced.
    pub(crate) fn add(&mut self, finished: &[FinishedTensor]) -> Result<()> {
        let text: String = finished.iter().map(line).collect();
        self.append(&text)
    }

    fn append(&mut self, text: &str) -> Result<()> {
        self.file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(MergeError::file("write", &self.path))
    }

    /// Removes the journal: what it speaks of is complete.
    pub(crate) fn remove(self) -> Result<()> {
        drop(self.file);
        fs::remove_file(&self.path).map_err(MergeError::file("remove", &self.path))
    }
}

fn line(finished: &FinishedTensor) -> String {
    serde_json::to_string(finished).unwrap_or_default() + "\n"
}
