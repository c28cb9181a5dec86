//! JSON row by row: one object a line, one array of objects, or objects over several lines each.

use std::collections::HashSet;
use std::io::BufRead;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::elements::{self, RowText, RowTextVisitor};
use super::{BOM, FileFormat, Record, RowFile, RowVisitor, Wanted, literals};
use crate::{DataError, Result};

/// The keys of all rows, in the order in which they first appear: a row may have a column that no earlier one has.
pub(super) fn columns(file: &RowFile<'_>, format: FileFormat) -> Result<Vec<String>> {
    let (mut columns, mut known) = (Vec::new(), HashSet::new());
    row_texts(file, format, &mut |row| {
        let keys = match keys(row.text) {
            Some(keys) => keys,
            // No object: a text, or an error.
            None => record(file, row, Wanted::All)?.keys().cloned().collect(),
        };
        let mut own = HashSet::with_capacity(keys.len());
        if let Some(twice) = keys.iter().find(|key| !own.insert(key.as_str())) {
            let message = format!("the key `{twice}` is there twice");
            return Err(DataError::malformed(&row.place, message));
        }
        for key in keys {
            if !known.contains(&key) {
                known.insert(key.clone());
                columns.push(key);
            }
        }
        Ok(())
    })?;
    Ok(columns)
}

/// The keys of an object, each as often as it is written.
fn keys(text: &[u8]) -> Option<Vec<String>> {
    let read = |text: &[u8]| serde_json::from_slice(text).ok().map(|Keys(keys)| keys);
    read(text).or_else(|| read(&literals::as_null(text, &literals::find(text))))
}

pub(super) fn read(
    file: &RowFile<'_>,
    format: FileFormat,
    wanted: Wanted<'_>,
    each: &mut RowVisitor<'_>,
) -> Result<()> {
    row_texts(file, format, &mut |row| each(&row.place, record(file, row, wanted)?))
}

fn row_texts(file: &RowFile<'_>, format: FileFormat, each: &mut RowTextVisitor<'_>) -> Result<()> {
    match format {
        FileFormat::JsonArray => elements::each(file, true, each),
        FileFormat::JsonObjects => elements::each(file, false, each),
        _ => lines(file, each),
    }
}

/// One object a line; blank lines are skipped.
fn lines(file: &RowFile<'_>, each: &mut RowTextVisitor<'_>) -> Result<()> {
    let mut reader = file.open()?;
    let mut line = Vec::new();
    let mut rows = 0;
    for number in 1.. {
        if file.is_past(rows + 1) {
            break;
        }
        line.clear();
        if reader
            .read_until(b'\n', &mut line)
            .map_err(|error| DataError::malformed(&file.line(number), error.to_string()))?
            == 0
        {
            break;
        }
        let text = if number == 1 {
            line.strip_prefix(BOM).unwrap_or(&line)
        } else {
            &line
        };
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        rows += 1;
        each(&RowText {
            place: file.line(number),
            text,
            start: (number, 1),
        })?;
    }
    Ok(())
}

/// A row's columns. Where they are not wanted, or nothing but `NaN`, what JSON does not have is null.
fn record(file: &RowFile<'_>, row: &RowText<'_>, wanted: Wanted<'_>) -> Result<Record> {
    let malformed = |message: String| DataError::malformed(&row.place, message);
    // A literal that cannot be kept, in a column that is wanted.
    let refused = |literals: &[literals::Literal]| {
        let of_use = |literal: &&literals::Literal| match (&literal.key, wanted) {
            (Some(key), Wanted::Columns(_)) => wanted.has(key) && !literal.missing,
            _ => false,
        };
        literals.iter().find(of_use).map(|literal| {
            let refusal = literals::refusal(row.text, literal);
            malformed(format!(
                "column `{}`: {refusal}",
                literal.key.as_deref().unwrap_or_default()
            ))
        })
    };
    let parsed = serde_json::from_slice::<Value>(row.text);
    let literals = match &parsed {
        Ok(_) => literals::wide_integers(row.text),
        Err(_) => literals::find(row.text),
    };
    let value = match parsed {
        Ok(value) if literals.is_empty() => value,
        parsed => {
            let replaced = serde_json::from_slice(&literals::as_null(row.text, &literals));
            replaced.map_err(|later| broken(file, row, parsed.as_ref().err().unwrap_or(&later)))?
        }
    };
    if let Some(error) = refused(&literals) {
        return Err(error);
    }
    match value {
        Value::Object(record) => Ok(record),
        // `datasets` takes an array of texts as documents.
        Value::String(text) if !row.place.lines => Ok(Record::from_iter([("text".to_owned(), text.into())])),
        other => Err(malformed(format!(
            "expected an object, found {}",
            shortened(other.to_string())
        ))),
    }
}

/// The parser's words at the place in the file.
fn broken(file: &RowFile<'_>, row: &RowText<'_>, error: &serde_json::Error) -> DataError {
    let message = error.to_string();
    let words = message.split(" at line ").next().unwrap_or(&message);
    let (line, column) = match error.line() {
        0 | 1 => (row.start.0, error.column() + row.start.1 - 1),
        later => (row.start.0 + later as u64 - 1, error.column()),
    };
    let message = format!("not valid JSON: {words} (column {column})");
    if row.place.lines {
        return DataError::malformed(&row.place, message);
    }
    let place = format!("{}:{line}", file.name);
    DataError::malformed(&place, format!("row {}: {message}", row.place.number))
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(40) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The keys of an object; its values are passed over.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct KeysVisitor;

        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(KeysVisitor)
    }
}
