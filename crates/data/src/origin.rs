//! Where training documents come from: kept beside each row on its way, and written down for every packed row, with
//! what was cut off it, so that a row can be shown as the step sees it and found again in its file.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::read::Place;
use crate::routing::Kind;
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

/// A row and where it comes from; generated rows come from nowhere.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) row: Row,
    pub(crate) origin: Option<Origin>,
    /// What a generated row's prompt is made of.
    pub(crate) kind: Option<Kind>,
}

/// One document of a packed row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentOrigin {
    /// The source as the recipe names it.
    pub source: String,
    /// `file:line` or `file: row N`; `generated` for generated rows.
    pub place: String,
    /// Its first token's number in the whole document: above 0 for the later parts of a split one.
    pub from: usize,
    /// Tokens of the whole document.
    pub of: usize,
    /// Tokens cut off its end, which training does not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<u32>,
}

impl Origin {
    /// As messages and the record write it.
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

/// Reads what an `origins.jsonl` says of one packed row; nothing if it has no such row.
///
/// # Errors
/// The file is missing, or its line is none of ours.
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
