//! Reads rows from files: parquet, JSON arrays, JSON lines, CSV, plain text. What the columns mean is not known here.

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

/// One row as the file has it: column → value.
pub(crate) type Record = Map<String, Value>;

/// Takes one row and where it stands (`file:line` or `file: row N`).
pub(crate) type Each<'e> = dyn FnMut(&Place<'_>, Record) -> Result<()> + 'e;

/// Where a row stands, for messages.
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

/// How a file's beginning is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// The footer says where each row group's columns are.
    RowGroups,
    /// Rows end where a byte ends them.
    Rows(Scan),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    JsonArray,
    JsonLines,
    Table { separator: u8 },
    Text,
}

/// A file of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFile<'p> {
    /// Where it lies.
    pub(crate) path: &'p Path,
    /// The name by which the user knows it; its ending tells the format.
    pub(crate) name: &'p str,
    /// Only so many rows from the beginning are read: of files that were fetched in part there are no others.
    pub(crate) most: Option<u64>,
}

impl RowFile<'_> {
    /// The columns: of the schema, the header, or the first row.
    pub(crate) fn columns(&self) -> Result<Vec<String>> {
        if self.most == Some(0) {
            return Ok(Vec::new());
        }
        match self.kind()? {
            Kind::Parquet => parquet::columns(self),
            Kind::Table { separator } => table::columns(self, separator),
            Kind::Text => Ok(vec!["text".to_owned()]),
            Kind::JsonArray | Kind::JsonLines => {
                let mut columns = Vec::new();
                let mut first = true;
                let outcome = self.read(&[], &mut |place, record| {
                    columns = record.keys().cloned().collect();
                    // One row is enough: stop by an error that is not one.
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

    /// Whether the file's beginning can be read without its end, and how.
    pub(crate) fn beginning(&self) -> Result<Option<Beginning>> {
        Ok(match self.kind()? {
            Kind::Parquet => Some(Beginning::RowGroups),
            Kind::JsonLines => Some(Beginning::Rows(Scan::lines())),
            Kind::JsonArray => Some(Beginning::Rows(Scan::array())),
            Kind::Table { .. } => Some(Beginning::Rows(Scan::table())),
            Kind::Text => None,
        })
    }

    /// Whether row `number`, counted from 1, is past the last one to be read.
    fn is_past(&self, number: u64) -> bool {
        self.most.is_some_and(|most| number > most)
    }

    /// Hands over every row, in the file's order. Parquet files give only the named columns that they have; others
    /// may give more.
    pub(crate) fn read(&self, columns: &[String], each: &mut Each<'_>) -> Result<()> {
        match self.kind()? {
            Kind::Parquet => parquet::read(self, columns, each),
            Kind::JsonArray => json::read_array(self, each),
            Kind::JsonLines => json::read_lines(self, each),
            Kind::Table { separator } => table::read(self, separator, each),
            Kind::Text => {
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

    fn kind(&self) -> Result<Kind> {
        let ending = Path::new(self.name)
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "parquet" => Ok(Kind::Parquet),
            "jsonl" | "ndjson" => Ok(Kind::JsonLines),
            // Both an array and lines are published under this ending.
            "json" => Ok(if self.first_byte()? == Some(b'[') {
                Kind::JsonArray
            } else {
                Kind::JsonLines
            }),
            "csv" => Ok(Kind::Table { separator: b',' }),
            "tsv" => Ok(Kind::Table { separator: b'\t' }),
            "txt" | "md" => Ok(Kind::Text),
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

/// What some editors write before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests;
