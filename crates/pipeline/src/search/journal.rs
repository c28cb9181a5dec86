//! Every loss a search has taken, so that one that was stopped or killed goes on instead of beginning again.
//!
//! A line holds what one model lost on a range of every domain's rows. The first line says which models and rows they
//! are; a journal about others is begun anew. The rows' order is fixed, so sums add up from ranges.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::PipelineError;

/// Raised when a line means something else.
const FORMAT: u32 = 1;

/// Loss in nats and trained tokens, summed, for every domain.
pub(super) type Sums = Vec<(f64, u64)>;

#[derive(Serialize, Deserialize, PartialEq)]
struct Head {
    format: u32,
    search: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    model: String,
    rows: (usize, usize),
    sums: Sums,
}

/// The journal of one search.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    known: HashMap<(String, usize, usize), Sums>,
}

impl Journal {
    /// Opens or begins the journal of `search`: a text that changes with everything a loss depends on.
    pub(super) fn open(path: &Path, search: &str) -> Result<Self, PipelineError> {
        let failed = || PipelineError::io(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(PipelineError::io(folder))?;
        }
        let head = Head {
            format: FORMAT,
            search: search.to_owned(),
        };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // A line that a crash cut short is the last, and says nothing.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let ours = lines
            .next()
            .and_then(|line| serde_json::from_str::<Head>(line).ok())
            .is_some_and(|found| found == head);
        let mut known = HashMap::new();
        if ours {
            for line in lines.map_while(|line| serde_json::from_str::<Line>(line).ok()) {
                known.insert((line.model, line.rows.0, line.rows.1), line.sums);
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed())?;
        file.set_len(if ours { whole as u64 } else { 0 }).map_err(failed())?;
        drop(file);
        let file = OpenOptions::new().append(true).open(path).map_err(failed())?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            known,
        };
        if !ours {
            journal.append(&head)?;
        }
        Ok(journal)
    }

    /// What is known of a model on a range of rows.
    pub(super) fn get(&self, model: &str, rows: &Range<usize>) -> Option<&Sums> {
        self.known.get(&(model.to_owned(), rows.start, rows.end))
    }

    /// Notes what a model lost.
    pub(super) fn put(&mut self, model: &str, rows: &Range<usize>, sums: Sums) -> Result<(), PipelineError> {
        self.append(&Line {
            model: model.to_owned(),
            rows: (rows.start, rows.end),
            sums: sums.clone(),
        })?;
        self.known.insert((model.to_owned(), rows.start, rows.end), sums);
        Ok(())
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), PipelineError> {
        let write = |file: &mut File| {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(PipelineError::io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    #[test]
    fn what_was_written_whole_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search/journal.jsonl");
        let mut journal = Journal::open(&path, "one").unwrap();
        journal.put("base", &(0..8), vec![(0.1 + 0.2, 7)]).unwrap();
        journal.put("base", &(8..32), vec![(3.0, 9)]).unwrap();
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        let mut journal = Journal::open(&path, "one").unwrap();
        assert_eq!(journal.get("base", &(0..8)), Some(&vec![(0.1 + 0.2, 7)]));
        assert_eq!(journal.get("base", &(8..32)), None);
        journal.put("base", &(8..32), vec![(3.0, 9)]).unwrap();
        drop(journal);
        assert_eq!(std::fs::read(&path).unwrap(), text);
        let other = Journal::open(&path, "two").unwrap();
        assert_eq!(other.get("base", &(0..8)), None);
    }
}
