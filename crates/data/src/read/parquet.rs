//! Parquet files: only the columns that are needed, batch by batch.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::{DataType, FieldRef, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ConvertedType, LogicalType};
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::SchemaDescriptor;

use super::{RowFile, RowVisitor, Wanted, cells, names};
use crate::{DataError, Result};

const BATCH_ROWS: usize = 1024;
/// The key under which Arrow's fields have the name of their extension type.
const EXTENSION_TYPE_NAME_KEY: &str = "ARROW:extension:name";

pub(super) fn columns(file: &RowFile<'_>) -> Result<Vec<String>> {
    names(file, open(file)?.schema().fields())
}

pub(super) fn read(file: &RowFile<'_>, wanted: Wanted<'_>, each: &mut RowVisitor<'_>) -> Result<()> {
    let builder = open(file)?;
    let schema = with_json_types(builder.schema(), builder.parquet_schema());
    names(file, builder.schema().fields())?;
    let named = schema.iter().enumerate();
    let roots: Vec<usize> = named
        .filter(|(_, field)| wanted.has(field.name()))
        .map(|(index, _)| index)
        .collect();
    let fields: Vec<FieldRef> = roots.iter().map(|&index| Arc::clone(&schema[index])).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let builder = match file.most {
        // The row groups behind may not even be there.
        Some(most) => {
            let groups = first_groups(builder.metadata(), most).0;
            let limit = usize::try_from(most).unwrap_or(usize::MAX);
            builder.with_row_groups((0..groups).collect()).with_limit(limit)
        }
        None => builder,
    };
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| DataError::malformed(&file.name, format!("not a readable parquet file: {error}")))?;
    cells::read_batches(file, &fields, reader, wanted, each)
}

/// The fields, with Arrow's name for JSON on the texts that parquet's own schema calls JSON: programs other than pyarrow
/// write no Arrow schema.
fn with_json_types(schema: &Schema, parquet: &SchemaDescriptor) -> Vec<FieldRef> {
    let mut leaves = parquet.columns().iter().map(|leaf| {
        matches!(leaf.logical_type_ref(), Some(LogicalType::Json)) || leaf.converted_type() == ConvertedType::JSON
    });
    let fields = schema.fields().iter();
    fields.map(|field| with_json_type(field, &mut leaves)).collect()
}

fn with_json_type(field: &FieldRef, leaves: &mut dyn Iterator<Item = bool>) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::List(item) => DataType::List(with_json_type(item, leaves)),
        DataType::LargeList(item) => DataType::LargeList(with_json_type(item, leaves)),
        DataType::ListView(item) => DataType::ListView(with_json_type(item, leaves)),
        DataType::LargeListView(item) => DataType::LargeListView(with_json_type(item, leaves)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(with_json_type(item, leaves), *length),
        DataType::Map(entries, sorted) => DataType::Map(with_json_type(entries, leaves), *sorted),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| with_json_type(field, leaves)).collect())
        }
        _ => {
            if leaves.next() != Some(true) {
                return Arc::clone(field);
            }
            let mut metadata = field.metadata().clone();
            metadata.insert(EXTENSION_TYPE_NAME_KEY.to_owned(), cells::JSON_TYPE.to_owned());
            return Arc::new(field.as_ref().clone().with_metadata(metadata));
        }
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// How many row groups hold the first `most` rows, and how many rows those groups have.
fn first_groups(metadata: &ParquetMetaData, most: u64) -> (usize, u64) {
    let (mut groups, mut rows) = (0, 0);
    for group in metadata.row_groups() {
        if rows >= most {
            break;
        }
        groups += 1;
        rows += u64::try_from(group.num_rows()).unwrap_or(0);
    }
    (groups, rows)
}

/// The bytes of the named columns in the row groups that hold the first `most` rows, and how many of those rows there
/// are. The file's footer must be in place, the rest need not.
pub(crate) fn needed(file: &RowFile<'_>, columns: &[String], most: u64) -> Result<(Vec<Range<u64>>, u64)> {
    let builder = open(file)?;
    let (groups, rows) = first_groups(builder.metadata(), most);
    let mut ranges = Vec::new();
    for group in &builder.metadata().row_groups()[..groups] {
        for chunk in group.columns() {
            let root = chunk.column_path().parts().first();
            if root.is_some_and(|root| columns.contains(root)) {
                let (start, length) = chunk.byte_range();
                ranges.push(start..start + length);
            }
        }
    }
    Ok((ranges, rows.min(most)))
}

/// Bytes of the footer, whose length the last eight bytes tell.
pub(crate) fn footer_length(end: &[u8; 8]) -> Option<u64> {
    let (length, magic) = end.split_at(4);
    let length = u32::from_le_bytes(length.try_into().ok()?);
    (magic == b"PAR1").then_some(u64::from(length) + 8)
}

fn open(file: &RowFile<'_>) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let opened = File::open(file.path).map_err(|error| DataError::io(file.path, error))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(opened)
        .map_err(|error| DataError::malformed(&file.name, format!("not a parquet file: {error}")))?;
    check_places(builder.metadata()).map_err(|message| DataError::malformed(&file.name, message))?;
    Ok(builder)
}

/// Refuses a footer whose columns lie nowhere: the library asserts that places and lengths are not negative. Refuses
/// compressions that this build cannot undo.
fn check_places(metadata: &ParquetMetaData) -> std::result::Result<(), String> {
    for (index, group) in metadata.row_groups().iter().enumerate() {
        for chunk in group.columns() {
            let compression = chunk.compression();
            let known = matches!(
                compression,
                Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_)
            );
            if !known {
                return Err(format!(
                    "column `{}` is compressed with {compression}, which is not read; write the file with snappy, gzip \
                     or zstd",
                    chunk.column_path().string()
                ));
            }
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            let length = chunk.compressed_size();
            if start < 0 || length < 0 || start.checked_add(length).is_none() {
                return Err(format!(
                    "not a readable parquet file: column `{}` of row group {index} has {length} bytes from {start} on",
                    chunk.column_path().string()
                ));
            }
        }
    }
    Ok(())
}
