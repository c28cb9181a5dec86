//! What chat templates expect from Python: how `str` prints values, and `tojson`.

use std::io::{self, Write};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Output, State, Value};
use serde::Serialize as _;
use serde_json::ser::{Formatter, Serializer};

/// Prints a value as Python's `str` does where minijinja differs: `True`, `None`, `1e+16`.
pub(super) fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => Ok(out.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(out.write_str("None")?),
        ValueKind::Number if !value.is_integer() => {
            let number = f64::try_from(value.clone())?;
            Ok(out.write_str(&float_repr(number))?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// `json.dumps(value, ensure_ascii=False)` with the keywords that `transformers` passes on.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the template engine hands filters their keywords by value"
)]
pub(super) fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |error: &dyn std::fmt::Display| Error::new(ErrorKind::BadSerialization, format!("tojson: {error}"));
    let mut json = serde_json::to_value(value).map_err(|error| failed(&error))?;
    if sort_keys == Some(true) {
        json.sort_all_objects();
    }
    let mut text = Vec::new();
    let formatter = PythonFormatter {
        indent,
        ensure_ascii: ensure_ascii == Some(true),
        depth: 0,
        is_empty: true,
    };
    json.serialize(&mut Serializer::with_formatter(&mut text, formatter))
        .map_err(|error| failed(&error))?;
    String::from_utf8(text).map_err(|error| failed(&error))
}

/// Writes JSON as Python's `json.dumps`: `, ` and `: ` as separators, floats by `repr`.
struct PythonFormatter {
    indent: Option<usize>,
    ensure_ascii: bool,
    depth: usize,
    /// Whether the array or object that is being written has no element yet.
    is_empty: bool,
}

impl PythonFormatter {
    fn open<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.is_empty = true;
        out.write_all(bracket)
    }

    fn separate<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        match (first, self.indent) {
            (true, None) => Ok(()),
            (false, None) => out.write_all(b", "),
            (true, Some(_)) => self.new_line(out),
            (false, Some(_)) => out.write_all(b",").and_then(|()| self.new_line(out)),
        }
    }

    fn close<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.indent.is_some() && !self.is_empty {
            self.new_line(out)?;
        }
        out.write_all(bracket)
    }

    fn new_line<W: ?Sized + Write>(&self, out: &mut W) -> io::Result<()> {
        write!(out, "\n{:1$}", "", self.indent.unwrap_or(0) * self.depth)
    }
}

impl Formatter for PythonFormatter {
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(float_repr(value).as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            return out.write_all(fragment.as_bytes());
        }
        for unit in fragment.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte < 0x7f => out.write_all(&[byte])?,
                _ => write!(out, "\\u{unit:04x}")?,
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"[")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.is_empty = false;
        Ok(())
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.is_empty = false;
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.close(out, b"}")
    }
}

/// `repr` of a Python float: Rust's shortest digits, Python's exponent.
fn float_repr(number: f64) -> String {
    let shortest = format!("{number:?}");
    match shortest.split_once('e') {
        None => shortest,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use serde_json::json;

    use super::*;

    fn dumps(value: &serde_json::Value, options: &[(&str, Value)]) -> String {
        let options = Kwargs::from_iter(options.iter().map(|(name, value)| (*name, value.clone())));
        tojson(&Value::from(minijinja::value::Serde(value)), options).unwrap()
    }

    #[test]
    fn json_is_that_of_pythons_dumps() {
        let value = json!({
            "b": [1, 2.0, 1e16, 1e-7, true, null, -0.5],
            "a": {"é😀\u{7f}": "\"\\\n\r\t\u{8}\u{c}\u{1}/", "y": {}, "x": [[], [{}]]},
        });
        // python3: json.dumps(value, ensure_ascii=False)
        assert_eq!(
            dumps(&value, &[]),
            "{\"b\": [1, 2.0, 1e+16, 1e-07, true, null, -0.5], \"a\": {\"é😀\u{7f}\": \
             \"\\\"\\\\\\n\\r\\t\\b\\f\\u0001/\", \"y\": {}, \"x\": [[], [{}]]}}"
        );
        // python3: json.dumps(value, indent=2, sort_keys=True)
        assert_eq!(
            dumps(
                &json!({ "b": [1, []], "a": { "y": "é😀\u{7f}", "x": {} } }),
                &[
                    ("indent", Value::from(2)),
                    ("sort_keys", Value::from(true)),
                    ("ensure_ascii", Value::from(true))
                ]
            ),
            "{\n  \"a\": {\n    \"x\": {},\n    \"y\": \"\\u00e9\\ud83d\\ude00\\u007f\"\n  },\n  \"b\": [\n    1,\n    []\n  ]\n}"
        );
        assert_eq!(
            dumps(&json!([1, [2]]), &[("indent", Value::from(0))]),
            "[\n1,\n[\n2\n]\n]"
        );
    }
}
