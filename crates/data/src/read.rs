//! Reads rows from files: parquet, JSON arrays, JSON lines, CSV, plain text.
//!
//! What this is not: it does not know what the columns mean.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use crate::{DataError, Result};

mod json;
pub(crate) mod parquet;
mod scan;
mod table;

pub(crate) use scan::Scan;

/// One row of a file: column → value.
pub(crate) type Record = Map<String, Value>;

/// Receives each row with its place (`file:line` or `file: row N`).
pub(crate) type RowVisitor<'e> = dyn FnMut(&Place<'_>, Record) -> Result<()> + 'e;

/// The place of a row, for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    /// The file as the user knows it.
    pub(crate) file: &'p str,
    /// Line or row, from 1.
    pub(crate) number: u64,
    /// Whether `number` counts lines.
    pub(crate) lines: bool,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.lines {
            write!(f, "{}:{}", self.file, self.number)
        } else {
            write!(f, "{}: row {}", self.file, self.number)
        }
    }
}

/// How the first rows of a file are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowLayout {
    /// The footer has the offsets of each row group's columns.
    RowGroups,
    /// Bytes end the rows.
    Rows(Scan),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileFormat {
    Parquet,
    JsonArray,
    JsonLines,
    Table { separator: u8 },
    Text,
}

/// A file of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFile<'p> {
    /// Its path.
    pub(crate) path: &'p Path,
    /// The name that the user knows; its extension determines the format.
    pub(crate) name: &'p str,
    /// The number of rows to read; a partially fetched file has no others.
    pub(crate) most: Option<u64>,
}

impl RowFile<'_> {
    /// The columns: of the schema, the header, or the first row.
    pub(crate) fn columns(&self) -> Result<Vec<String>> {
        if self.most == Some(0) {
            return Ok(Vec::new());
        }
        match self.kind()? {
            FileFormat::Parquet => parquet::columns(self),
            FileFormat::Table { separator } => table::columns(self, separator),
            FileFormat::Text => Ok(vec!["text".to_owned()]),
            FileFormat::JsonArray | FileFormat::JsonLines => {
                let mut columns = Vec::new();
                let mut first = true;
                let outcome = self.read(&[], &mut |place, record| {
                    columns = record.keys().cloned().collect();
                    // One row is enough; an error stops the reader.
                    if std::mem::take(&mut first) {
                        Err(DataError::malformed(&place, ""))
                    } else {
                        Ok(())
                    }
                });
                if first { outcome.map(|()| columns) } else { Ok(columns) }
            }
        }
    }

    /// How the first rows can be read without the rest of the file; `None` if they cannot.
    pub(crate) fn row_layout(&self) -> Result<Option<RowLayout>> {
        Ok(match self.kind()? {
            FileFormat::Parquet => Some(RowLayout::RowGroups),
            FileFormat::JsonLines => Some(RowLayout::Rows(Scan::lines())),
            FileFormat::JsonArray => Some(RowLayout::Rows(Scan::array())),
            FileFormat::Table { .. } => Some(RowLayout::Rows(Scan::table())),
            FileFormat::Text => None,
        })
    }

    /// Whether row `number`, counted from 1, is past the last one to be read.
    fn is_past(&self, number: u64) -> bool {
        self.most.is_some_and(|most| number > most)
    }

    /// Passes every row to `each`, in the file's order. Parquet files give only the named columns; others may give more.
    pub(crate) fn read(&self, columns: &[String], each: &mut RowVisitor<'_>) -> Result<()> {
        match self.kind()? {
            FileFormat::Parquet => parquet::read(self, columns, each),
            FileFormat::JsonArray => json::read_array(self, each),
            FileFormat::JsonLines => json::read_lines(self, each),
            FileFormat::Table { separator } => table::read(self, separator, each),
            FileFormat::Text => {
                let text = std::fs::read_to_string(self.path).map_err(|error| DataError::io(self.path, error))?;
                let record = Record::from_iter([("text".to_owned(), Value::String(text))]);
                each(
                    &Place {
                        file: self.name,
                        number: 1,
                        lines: false,
                    },
                    record,
                )
            }
        }
    }

    fn kind(&self) -> Result<FileFormat> {
        let ending = Path::new(self.name)
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "parquet" => Ok(FileFormat::Parquet),
            "jsonl" | "ndjson" => Ok(FileFormat::JsonLines),
            // Arrays and lines are both published with this extension.
            "json" => Ok(if self.first_byte()? == Some(b'[') {
                FileFormat::JsonArray
            } else {
                FileFormat::JsonLines
            }),
            "csv" => Ok(FileFormat::Table { separator: b',' }),
            "tsv" => Ok(FileFormat::Table { separator: b'\t' }),
            "txt" | "md" => Ok(FileFormat::Text),
            other => Err(DataError::malformed(
                &self.name,
                format!("unknown ending `{other}`; rows are read from parquet, json, jsonl, csv, tsv and txt"),
            )),
        }
    }

    fn first_byte(&self) -> Result<Option<u8>> {
        let mut reader = self.open()?;
        loop {
            let buffer = reader.fill_buf().map_err(|error| DataError::io(self.path, error))?;
            let skipped = buffer
                .iter()
                .take_while(|byte| byte.is_ascii_whitespace() || BOM.contains(byte))
                .count();
            if skipped < buffer.len() || buffer.is_empty() {
                return Ok(buffer.get(skipped).copied());
            }
            reader.consume(skipped);
        }
    }

    fn open(&self) -> Result<BufReader<File>> {
        let file = File::open(self.path).map_err(|error| DataError::io(self.path, error))?;
        Ok(BufReader::with_capacity(1 << 18, file))
    }

    fn row(&self, number: u64) -> Place<'_> {
        Place {
            file: self.name,
            number,
            lines: false,
        }
    }

    fn line(&self, number: u64) -> Place<'_> {
        Place {
            file: self.name,
            number,
            lines: true,
        }
    }
}

/// The byte order mark that some editors write before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests;
