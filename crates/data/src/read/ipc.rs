//! Arrow files, as `datasets` keeps them on disk: streams of record batches, or files with a footer.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use arrow::datatypes::{FieldRef, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::record_batch::RecordBatch;

use super::{RowFile, RowVisitor, Wanted, cells, names};
use crate::{DataError, Result};

/// How a file with a footer begins.
const FILE_MAGIC: [u8; 6] = *b"ARROW1";

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>>>;

pub(super) fn columns(file: &RowFile<'_>) -> Result<Vec<String>> {
    let (schema, _) = open(file, None)?;
    names(file, schema.fields())
}

pub(super) fn read(file: &RowFile<'_>, wanted: Wanted<'_>, each: &mut RowVisitor<'_>) -> Result<()> {
    let (schema, _) = open(file, None)?;
    let named = schema.fields().iter().enumerate();
    let columns: Vec<usize> = named
        .filter(|(_, field)| wanted.has(field.name()))
        .map(|(index, _)| index)
        .collect();
    let fields: Vec<FieldRef> = columns.iter().map(|&index| schema.fields()[index].clone()).collect();
    let (_, batches) = open(file, Some(columns))?;
    cells::read_batches(file, &fields, batches, wanted, each)
}

/// The schema, and the batches with only these columns.
fn open(file: &RowFile<'_>, columns: Option<Vec<usize>>) -> Result<(SchemaRef, Batches)> {
    let failed = |error| DataError::io(file.path, error);
    let broken = |error: ArrowError| DataError::malformed(&file.name, format!("not a readable Arrow file: {error}"));
    let mut opened = File::open(file.path).map_err(failed)?;
    let mut magic = Vec::new();
    opened
        .by_ref()
        .take(FILE_MAGIC.len() as u64)
        .read_to_end(&mut magic)
        .map_err(failed)?;
    opened.seek(SeekFrom::Start(0)).map_err(failed)?;
    let reader = BufReader::new(opened);
    if magic == FILE_MAGIC {
        let reader = FileReader::try_new(reader, columns).map_err(broken)?;
        Ok((reader.schema(), Box::new(reader)))
    } else {
        let reader = StreamReader::try_new(reader, columns).map_err(broken)?;
        Ok((reader.schema(), Box::new(reader)))
    }
}
