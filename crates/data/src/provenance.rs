//! Provenance of training documents: carried along with each row and recorded for every packed row, with the tokens cut
//! off it. So a packed row can be shown as training sees it and found again in its file.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::read::Place;
use crate::routing::PromptKind;
use crate::row::Row;
use crate::{DataError, Result, SourceFiles};

/// A place in a source's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Index of the file.
    pub(crate) file: usize,
    /// Line or row, from 1.
    pub(crate) number: u64,
    /// Whether `number` counts lines.
    pub(crate) lines: bool,
}

/// A row that was sampled, with its origin; generated rows have none.
#[derive(Debug, Clone)]
pub(crate) struct SampledRow {
    pub(crate) row: Row,
    pub(crate) origin: Option<Origin>,
    /// How a generated row's prompt was made.
    pub(crate) kind: Option<PromptKind>,
}

/// One document of a packed row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentOrigin {
    /// The source as the recipe names it.
    pub source: String,
    /// `file:line` or `file: row N`; `generated` for generated rows.
    pub place: String,
    /// Index of its first token in the whole document; above 0 for the later chunks of a split one.
    pub from: usize,
    /// Tokens of the whole document.
    pub of: usize,
    /// Tokens cut off its end, which training does not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<u32>,
}

impl Origin {
    /// The origin as messages and origins.jsonl have it.
    pub(crate) fn describe(origin: Option<Self>, files: &SourceFiles) -> String {
        let Some(origin) = origin else {
            return "generated".to_owned();
        };
        let place = Place {
            file: files.files.get(origin.file).map_or("", |file| file.name.as_str()),
            number: origin.number,
            lines: origin.lines,
        };
        place.to_string()
    }
}

/// Reads the origins of one packed row from an `origins.jsonl`; empty if it has no such row.
///
/// # Errors
/// The file is missing, or its line is not a list of origins.
pub fn read_origins(path: &Path, row: usize) -> Result<Vec<DocumentOrigin>> {
    let file = std::fs::File::open(path).map_err(|error| DataError::io(path, error))?;
    let Some(line) = BufReader::new(file).lines().nth(row) else {
        return Ok(Vec::new());
    };
    let line = line.map_err(|error| DataError::io(path, error))?;
    let place = format!("{}:{}", path.display(), row + 1);
    serde_json::from_str(&line).map_err(|error| DataError::malformed(&place, format!("not a row's origins: {error}")))
}

pub(crate) fn write_origins(path: &Path, rows: &[Vec<DocumentOrigin>]) -> Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)
            .map_err(|error| DataError::malformed(&path.display(), error.to_string()))?;
        text.push(b'\n');
    }
    Ok(synapse_checkpoint::write_atomic(path, &text)?)
}
