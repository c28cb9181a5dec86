//! Arrow's arrays as JSON, cell by cell, for parquet and Arrow files.
//!
//! Arrow has one struct type for all rows of a column: a key that some row has is null in every other one. So a null
//! inside a struct is the absence of that key, as TRL's `remove_none_values` has it. A column of JSON text keeps the
//! nulls that are written in it.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef};
use serde_json::Value;

use super::{Place, Record, RowFile, RowVisitor, Wanted, literals};
use crate::{DataError, Result};

/// What is wrong with a cell.
type CellResult<T> = std::result::Result<T, String>;

/// Arrow's name for JSON in a text; `datasets` writes columns of its type `Json` with it.
pub(super) const JSON_TYPE: &str = "arrow.json";

/// Passes every row of the batches to `each`; their columns are described by `fields`.
pub(super) fn read_batches<E: std::fmt::Display>(
    file: &RowFile<'_>,
    fields: &[FieldRef],
    batches: impl Iterator<Item = std::result::Result<RecordBatch, E>>,
    wanted: Wanted<'_>,
    each: &mut RowVisitor<'_>,
) -> Result<()> {
    let mut number = 0;
    for batch in batches {
        let batch = batch.map_err(|error| DataError::malformed(&file.row(number + 1), error.to_string()))?;
        for index in 0..batch.num_rows() {
            number += 1;
            if file.is_past(number) {
                return Ok(());
            }
            let place = file.row(number);
            each(&place, record(fields, &batch, index, &place, wanted)?)?;
        }
    }
    Ok(())
}

fn record(
    fields: &[FieldRef],
    batch: &RecordBatch,
    index: usize,
    place: &Place<'_>,
    wanted: Wanted<'_>,
) -> Result<Record> {
    let mut record = Record::new();
    for (field, column) in fields.iter().zip(batch.columns()) {
        let value = match (column_cell(field, column, index), wanted) {
            (Ok(value), _) => value,
            // Nobody asked for this column in particular.
            (Err(_), Wanted::All) => None,
            (Err(message), Wanted::Columns(_)) => {
                let message = format!("column `{}`: {message}", field.name());
                return Err(DataError::malformed(place, message));
            }
        };
        record.insert(field.name().clone(), value.unwrap_or(Value::Null));
    }
    Ok(record)
}

/// A cell of a column. Decimals and dates are read as the texts that Python prints for them; a number that is none is
/// pandas' word for a missing value.
fn column_cell(field: &Field, column: &dyn Array, index: usize) -> CellResult<Option<Value>> {
    let unknown = || "a date beyond every calendar".to_owned();
    let text = match column.data_type() {
        _ if column.is_null(index) => return Ok(None),
        DataType::Decimal32(..) => column.as_primitive::<Decimal32Type>().value_as_string(index),
        DataType::Decimal64(..) => column.as_primitive::<Decimal64Type>().value_as_string(index),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(index),
        DataType::Decimal256(..) => column.as_primitive::<Decimal256Type>().value_as_string(index),
        DataType::Date32 => {
            let date = column.as_primitive::<Date32Type>().value_as_date(index);
            date.ok_or_else(unknown)?.to_string()
        }
        DataType::Date64 => {
            let date = column.as_primitive::<Date64Type>().value_as_date(index);
            date.ok_or_else(unknown)?.to_string()
        }
        _ if is_nan(column, index) => return Ok(None),
        _ => return cell(field, column, index),
    };
    Ok(Some(text.into()))
}

fn is_nan(column: &dyn Array, index: usize) -> bool {
    match column.data_type() {
        DataType::Float16 => column.as_primitive::<Float16Type>().value(index).is_nan(),
        DataType::Float32 => column.as_primitive::<Float32Type>().value(index).is_nan(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(index).is_nan(),
        _ => false,
    }
}

/// A cell; `None` where Arrow has a null.
fn cell(field: &Field, array: &dyn Array, index: usize) -> CellResult<Option<Value>> {
    if array.is_null(index) {
        return Ok(None);
    }
    // The field knows which texts are JSON; of a dictionary it knows nothing but that it is one.
    let data_type = match field.data_type() {
        DataType::Dictionary(..) => array.data_type(),
        known => known,
    };
    Ok(Some(match data_type {
        DataType::Null => return Ok(None),
        DataType::Utf8 => text(field, array.as_string::<i32>().value(index))?,
        DataType::LargeUtf8 => text(field, array.as_string::<i64>().value(index))?,
        DataType::Utf8View => text(field, array.as_string_view().value(index))?,
        DataType::Boolean => array.as_boolean().value(index).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(index).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(index).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(index).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(index).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(index).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(index).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(index).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(index).into(),
        DataType::Float16 => number(array.as_primitive::<Float16Type>().value(index).to_f64())?,
        DataType::Float32 => number(f64::from(array.as_primitive::<Float32Type>().value(index)))?,
        DataType::Float64 => number(array.as_primitive::<Float64Type>().value(index))?,
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let key = cell(field, dictionary.keys(), index)?.and_then(|key| usize::try_from(key.as_u64()?).ok());
            let key = key.ok_or("a dictionary's key is no place in it")?;
            return cell(field, dictionary.values(), key);
        }
        DataType::List(item) => list(item, &array.as_list::<i32>().value(index))?,
        DataType::LargeList(item) => list(item, &array.as_list::<i64>().value(index))?,
        DataType::ListView(item) => list(item, &array.as_list_view::<i32>().value(index))?,
        DataType::LargeListView(item) => list(item, &array.as_list_view::<i64>().value(index))?,
        DataType::FixedSizeList(item, _) => list(item, &array.as_fixed_size_list().value(index))?,
        DataType::Struct(fields) => {
            let mut object = Record::new();
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                if let Some(value) = cell(field, column, index)? {
                    object.insert(field.name().clone(), value);
                }
            }
            Value::Object(object)
        }
        other => {
            return Err(format!(
                "values of type {other} are not text, numbers, lists or structs"
            ));
        }
    }))
}

/// A list keeps its nulls: they have a place in it.
fn list(item: &Field, items: &dyn Array) -> CellResult<Value> {
    let cells = (0..items.len()).map(|index| Ok(cell(item, items, index)?.unwrap_or(Value::Null)));
    cells.collect::<CellResult<_>>().map(Value::Array)
}

/// A text, or what is written in it if the column holds JSON.
fn text(field: &Field, text: &str) -> CellResult<Value> {
    // The reader of Parquet checks only some pages, and takes the bytes of a damaged file for text.
    std::str::from_utf8(text.as_bytes()).map_err(|error| format!("a text is not UTF-8: {error}"))?;
    if field.extension_type_name() == Some(JSON_TYPE) {
        literals::parse(text)
    } else {
        Ok(text.into())
    }
}

fn number(number: f64) -> CellResult<Value> {
    let value = serde_json::Number::from_f64(number);
    value
        .map(Value::Number)
        .ok_or_else(|| format!("{number} cannot be written as JSON; replace it by a null"))
}

#[cfg(test)]
mod tests;
