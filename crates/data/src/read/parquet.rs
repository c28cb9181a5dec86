//! Parquet files: only the columns that are needed, batch by batch.

use std::fs::File;
use std::ops::Range;

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, UInt64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::{Record, RowFile, RowVisitor};
use crate::{DataError, Result};

const BATCH_ROWS: usize = 1024;

pub(super) fn columns(file: &RowFile<'_>) -> Result<Vec<String>> {
    Ok(open(file)?
        .schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect())
}

pub(super) fn read(file: &RowFile<'_>, columns: &[String], each: &mut RowVisitor<'_>) -> Result<()> {
    let builder = open(file)?;
    let wanted = builder
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| columns.contains(field.name()));
    let roots: Vec<usize> = wanted.map(|(index, _)| index).collect();
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
    let mut number = 0;
    for batch in reader {
        let batch = batch.map_err(|error| DataError::malformed(&file.row(number + 1), error.to_string()))?;
        let schema = batch.schema();
        for index in 0..batch.num_rows() {
            number += 1;
            let mut record = Record::new();
            for (field, column) in schema.fields().iter().zip(batch.columns()) {
                let value = value(column, index).map_err(|message| {
                    DataError::malformed(&file.row(number), format!("column `{}`: {message}", field.name()))
                })?;
                record.insert(field.name().clone(), value);
            }
            each(&file.row(number), record)?;
        }
    }
    Ok(())
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

/// Refuses a footer whose columns lie nowhere: the library asserts that places and lengths are not negative.
fn check_places(metadata: &ParquetMetaData) -> std::result::Result<(), String> {
    for (index, group) in metadata.row_groups().iter().enumerate() {
        for chunk in group.columns() {
            let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
            let length = chunk.compressed_size();
            if start < 0 || length < 0 || start.checked_add(length).is_none() {
                return Err(format!(
                    "not a readable parquet file: column `{}` of row group {index} has {length} bytes from {start} on",
                    chunk.column_path()
                ));
            }
        }
    }
    Ok(())
}

/// One cell as JSON.
fn value(array: &dyn Array, index: usize) -> std::result::Result<Value, String> {
    if array.is_null(index) {
        return Ok(Value::Null);
    }
    let widened = |to: &DataType| cast(array.slice(index, 1).as_ref(), to).map_err(|error| error.to_string());
    let list = |items: &dyn Array| {
        (0..items.len())
            .map(|item| value(items, item))
            .collect::<std::result::Result<_, _>>()
    };
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Utf8 => array.as_string::<i32>().value(index).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(index).into(),
        DataType::Utf8View => array.as_string_view().value(index).into(),
        DataType::Boolean => array.as_boolean().value(index).into(),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            widened(&DataType::Int64)?.as_primitive::<Int64Type>().value(0).into()
        }
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
            widened(&DataType::UInt64)?.as_primitive::<UInt64Type>().value(0).into()
        }
        DataType::Float32 => f64::from(array.as_primitive::<Float32Type>().value(index)).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(index).into(),
        DataType::Dictionary(_, _) => {
            let text = widened(&DataType::Utf8)?;
            text.as_any()
                .downcast_ref::<StringArray>()
                .map_or(Value::Null, |text| text.value(0).into())
        }
        DataType::List(_) => Value::Array(list(&array.as_list::<i32>().value(index))?),
        DataType::LargeList(_) => Value::Array(list(&array.as_list::<i64>().value(index))?),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let cells = columns.map(|(field, column)| Ok((field.name().clone(), value(column, index)?)));
            Value::Object(cells.collect::<std::result::Result<_, String>>()?)
        }
        other => {
            return Err(format!(
                "values of type {other} are not text, numbers, lists or structs"
            ));
        }
    })
}
