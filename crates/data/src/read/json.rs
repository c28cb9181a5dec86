//! JSON arrays, streamed element by element, and JSON lines.

use std::io::{BufRead, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;

use super::{BOM, Record, RowFile, RowVisitor};
use crate::{DataError, Result};

/// One object a line; blank lines are skipped.
pub(super) fn read_lines(file: &RowFile<'_>, each: &mut RowVisitor<'_>) -> Result<()> {
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
            .map_err(|error| DataError::io(file.path, error))?
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
        let place = file.line(number);
        let record = serde_json::from_slice::<Value>(text)
            .map_err(|error| DataError::malformed(&place, describe(&error)))
            .and_then(|value| object(value).map_err(|message| DataError::malformed(&place, message)))?;
        each(&place, record)?;
    }
    Ok(())
}

/// One array of objects.
pub(super) fn read_array(file: &RowFile<'_>, each: &mut RowVisitor<'_>) -> Result<()> {
    let mut reader = file.open()?;
    if reader
        .fill_buf()
        .map_err(|error| DataError::io(file.path, error))?
        .starts_with(BOM)
    {
        reader.consume(BOM.len());
    }
    let mut elements = Elements {
        file,
        each,
        number: 0,
        failed: None,
    };
    let mut deserializer = serde_json::Deserializer::from_reader(reader.by_ref());
    let outcome = (&mut elements)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    let Elements { number, failed, .. } = elements;
    let enough = file.most.is_some_and(|most| number == most);
    match (failed, outcome) {
        (Some(error), _) => Err(error),
        (None, Err(_)) if enough => Ok(()),
        (None, Err(error)) if error.is_io() => Err(DataError::io(file.path, error.into())),
        (None, Err(error)) => {
            let place = format!("{}:{}", file.name, error.line());
            Err(DataError::malformed(
                &place,
                format!("row {}: {}", number + 1, describe(&error)),
            ))
        }
        (None, Ok(())) => Ok(()),
    }
}

struct Elements<'a, 'f, 'e> {
    file: &'a RowFile<'f>,
    each: &'a mut RowVisitor<'e>,
    number: u64,
    /// Our own error, carried past the parser's.
    failed: Option<DataError>,
}

impl<'de> DeserializeSeed<'de> for &mut Elements<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Elements<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> std::result::Result<(), A::Error> {
        while !self.file.is_past(self.number + 1)
            && let Some(value) = array.next_element::<Value>()?
        {
            self.number += 1;
            let place = self.file.row(self.number);
            let outcome = object(value)
                .map_err(|message| DataError::malformed(&place, message))
                .and_then(|record| (self.each)(&place, record));
            if let Err(error) = outcome {
                self.failed = Some(error);
                return Err(A::Error::custom("stopped"));
            }
        }
        // What follows the last row that is wanted may not be there: the parser is not to look.
        if self.file.is_past(self.number + 1) {
            return Err(A::Error::custom("enough"));
        }
        Ok(())
    }
}

fn object(value: Value) -> std::result::Result<Record, String> {
    match value {
        Value::Object(record) => Ok(record),
        other => {
            let mut shown = other.to_string();
            if let Some((end, _)) = shown.char_indices().nth(40) {
                shown.truncate(end);
                shown.push('…');
            }
            Err(format!("expected an object, found {shown}"))
        }
    }
}

/// The parser's words without its line number, which counts from the row's start.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.split(" at line ").next().unwrap_or(&text);
    format!("not valid JSON: {words} (column {})", error.column())
}
