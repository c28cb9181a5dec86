//! Arrow files, as `datasets` keeps them on disk: streams of record batches, or files with a footer.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, FieldRef, SchemaRef};

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
    names(file, schema.fields())?;
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
    let opened: std::result::Result<(SchemaRef, Batches), ArrowError> = whole(|| {
        if magic == FILE_MAGIC {
            let reader = FileReader::try_new(reader, columns)?;
            Ok((reader.schema(), Box::new(reader) as Batches))
        } else {
            let reader = StreamReader::try_new(reader, columns)?;
            Ok((reader.schema(), Box::new(reader) as Batches))
        }
    });
    let (schema, mut batches) = opened.map_err(broken)?;
    Ok((schema, Box::new(std::iter::from_fn(move || next(&mut batches)))))
}

/// The next batch.
fn next(batches: &mut Batches) -> Option<std::result::Result<RecordBatch, ArrowError>> {
    whole(|| batches.next().transpose()).transpose()
}

/// What the library reads. It asserts that a file's buffers lie inside its messages, which is not so in a damaged one.
fn whole<T>(read: impl FnOnce() -> std::result::Result<T, ArrowError>) -> std::result::Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(ArrowError::IpcError("the file is damaged".to_owned())))
}
