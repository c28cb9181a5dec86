//! Comma- and tab-separated tables with a header.

use std::io::BufRead;

use csv::{Reader, ReaderBuilder};
use serde_json::Value;

use super::{Record, RowFile, RowVisitor, unique};
use crate::{DataError, Result};

pub(super) fn columns(file: &RowFile<'_>, separator: u8) -> Result<Vec<String>> {
    let mut reader = open(file, separator)?;
    let header = reader.headers().map_err(|error| broken(file, 1, &error))?;
    unique(file, header.iter().map(str::to_owned).collect())
}

pub(super) fn read(file: &RowFile<'_>, separator: u8, each: &mut RowVisitor<'_>) -> Result<()> {
    let columns = columns(file, separator)?;
    let mut reader = open(file, separator)?;
    let mut line = 1;
    // Not one record further than wanted: what follows may not be there.
    let most = file.most.and_then(|most| usize::try_from(most).ok());
    for record in reader.records().take(most.unwrap_or(usize::MAX)) {
        let record = record.map_err(|error| broken(file, line + 1, &error))?;
        line = record.position().map_or(line, csv::Position::line);
        let values = record.iter().map(|value| Value::String(value.to_owned()));
        each(
            &file.line(line),
            columns.iter().cloned().zip(values).collect::<Record>(),
        )?;
    }
    Ok(())
}

fn open(file: &RowFile<'_>, separator: u8) -> Result<Reader<Box<dyn BufRead>>> {
    Ok(ReaderBuilder::new().delimiter(separator).from_reader(file.open()?))
}

fn broken(file: &RowFile<'_>, line: u64, error: &csv::Error) -> DataError {
    let line = error.position().map_or(line, csv::Position::line);
    DataError::malformed(&file.line(line), format!("not a valid table: {error}"))
}
