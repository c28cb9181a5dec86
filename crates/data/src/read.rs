//! Reads rows from files: parquet, Arrow, JSON arrays, JSON lines, CSV, plain text; texts also where they are compressed.
//!
//! What this is not: it does not know what the columns mean.

use std::io::{BufRead, Read};
use std::path::Path;

use arrow_schema::Fields;
use serde_json::{Map, Value};
use synapse_recipe::{row_file_ending, without_compression};

use crate::{DataError, Result};

mod cells;
mod compressed;
mod elements;
mod ipc;
mod json;
mod literals;
pub(crate) mod parquet;
mod scan;
mod table;

pub(crate) use literals::parse as parse_json;
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

/// The columns that a reader is after.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'c> {
    /// These; what cannot be read in one of them is an error.
    Columns(&'c [String]),
    /// Whatever there is; what cannot be read is null.
    All,
}

impl Wanted<'_> {
    fn has(self, column: &str) -> bool {
        match self {
            Self::Columns(columns) => columns.iter().any(|wanted| wanted == column),
            Self::All => true,
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
    Arrow,
    JsonArray,
    JsonLines,
    JsonObjects,
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
    /// The columns: of the schema, the header, or all rows of a JSON file.
    pub(crate) fn columns(&self) -> Result<Vec<String>> {
        if self.most == Some(0) {
            return Ok(Vec::new());
        }
        match self.kind()? {
            FileFormat::Parquet => parquet::columns(self),
            FileFormat::Arrow => ipc::columns(self),
            FileFormat::Table { separator } => table::columns(self, separator),
            FileFormat::Text => Ok(vec!["text".to_owned()]),
            format @ (FileFormat::JsonArray | FileFormat::JsonLines | FileFormat::JsonObjects) => {
                json::columns(self, format)
            }
        }
    }

    /// How the first rows can be read without the rest of the file; `None` if they cannot.
    pub(crate) fn row_layout(&self) -> Result<Option<RowLayout>> {
        if without_compression(self.name).1.is_some() {
            return Ok(None);
        }
        Ok(match self.kind()? {
            FileFormat::Parquet => Some(RowLayout::RowGroups),
            FileFormat::JsonLines => Some(RowLayout::Rows(Scan::lines())),
            FileFormat::JsonArray => Some(RowLayout::Rows(Scan::array())),
            FileFormat::JsonObjects => Some(RowLayout::Rows(Scan::objects())),
            FileFormat::Table { .. } => Some(RowLayout::Rows(Scan::table())),
            FileFormat::Text | FileFormat::Arrow => None,
        })
    }

    /// Whether row `number`, counted from 1, is past the last one to be read.
    fn is_past(&self, number: u64) -> bool {
        self.most.is_some_and(|most| number > most)
    }

    /// Passes every row to `each`, in the file's order. Parquet and Arrow files give only the wanted columns; others may
    /// give more.
    pub(crate) fn read(&self, wanted: Wanted<'_>, each: &mut RowVisitor<'_>) -> Result<()> {
        match self.kind()? {
            FileFormat::Parquet => parquet::read(self, wanted, each),
            FileFormat::Arrow => ipc::read(self, wanted, each),
            format @ (FileFormat::JsonArray | FileFormat::JsonLines | FileFormat::JsonObjects) => {
                json::read(self, format, wanted, each)
            }
            FileFormat::Table { separator } => table::read(self, separator, each),
            FileFormat::Text => each(&self.row(1), self.text()?),
        }
    }

    fn kind(&self) -> Result<FileFormat> {
        match row_file_ending(self.name).as_str() {
            "parquet" | "arrow" if without_compression(self.name).1.is_some() => Err(DataError::malformed(
                &self.name,
                "this format has its own compression; decompress the file",
            )),
            "parquet" => Ok(FileFormat::Parquet),
            "arrow" => Ok(FileFormat::Arrow),
            "json" | "jsonl" | "ndjson" => self.json_layout(),
            "csv" => Ok(FileFormat::Table { separator: b',' }),
            "tsv" => Ok(FileFormat::Table { separator: b'\t' }),
            "txt" | "md" => Ok(FileFormat::Text),
            other => Err(DataError::malformed(
                &self.name,
                format!(
                    "unknown ending `{other}`; rows are read from parquet, arrow, json, jsonl, csv, tsv and txt, and \
                     from the last five compressed too (.gz, .zst)"
                ),
            )),
        }
    }

    /// The whole file as one row. Lines end as Python reads them: with a line feed alone.
    fn text(&self) -> Result<Record> {
        let mut text = String::new();
        let read = self.open()?.read_to_string(&mut text);
        read.map_err(|error| DataError::io(self.path, error))?;
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        if text.contains('\r') {
            text = text.replace("\r\n", "\n").replace('\r', "\n");
        }
        Ok(Record::from_iter([("text".to_owned(), Value::String(text))]))
    }

    /// Arrays, lines and objects over several lines are published with the same endings; the first line tells.
    fn json_layout(&self) -> Result<FileFormat> {
        /// The bytes of a line that are looked at: an object over several lines begins a new one soon.
        const LOOKED_AT: u64 = 1 << 16;
        let failed = |error| DataError::io(self.path, error);
        let is_open = |text: &[u8]| {
            let mut scan = Scan::objects();
            text.iter().for_each(|&byte| _ = scan.ends_row(byte));
            scan.is_open()
        };
        let mut reader = self.open()?.take(LOOKED_AT);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            let text = line.strip_prefix(BOM).unwrap_or(&line).trim_ascii();
            match text.first() {
                Some(b'[') => return Ok(FileFormat::JsonArray),
                Some(b'{') if line.ends_with(b"\n") && is_open(text) => return Ok(FileFormat::JsonObjects),
                Some(_) => break,
                None => line.clear(),
            }
        }
        Ok(FileFormat::JsonLines)
    }

    fn open(&self) -> Result<Box<dyn BufRead>> {
        compressed::open(self.path).map_err(|error| DataError::io(self.path, error))
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

/// The names of an Arrow schema's fields. Two of one name are refused: which one is meant?
fn names(file: &RowFile<'_>, fields: &Fields) -> Result<Vec<String>> {
    unique(file, fields.iter().map(|field| field.name().clone()).collect())
}

fn unique(file: &RowFile<'_>, columns: Vec<String>) -> Result<Vec<String>> {
    let twice = (1..columns.len()).find(|&index| columns[..index].contains(&columns[index]));
    match twice {
        Some(index) => {
            let message = format!("two columns are called `{}`; rename one", columns[index]);
            Err(DataError::malformed(&file.name, message))
        }
        None => Ok(columns),
    }
}

/// The byte order mark that some editors write before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests;
