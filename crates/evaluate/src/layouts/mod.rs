//! The datasets of suites as the hub lays them out, turned into this crate's rows.
//!
//! A row comes in as column → value, whatever file it was read from; a column that is missing or of another type is
//! named with its place. Nothing is guessed: a file that is laid out otherwise is refused.

mod choices;
mod custom;
mod programs;

use serde_json::{Map, Value};

pub use choices::{arc, choices, hellaswag, mmlu};
pub use custom::custom;
pub use custom::{CustomRow, Scorer};
pub use programs::{Preamble, Program};
pub use programs::{humaneval, mbpp};

use crate::{EvaluateError, Result};

/// One row of a suite's file.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// Where it stands, such as `test.parquet: row 3`.
    pub place: String,
    /// Column → value.
    pub fields: Map<String, Value>,
}

impl SourceRow {
    /// A row of a suite's file.
    pub fn new(place: impl Into<String>, fields: Map<String, Value>) -> Self {
        Self {
            place: place.into(),
            fields,
        }
    }
}

/// A row being read for one suite.
#[derive(Clone, Copy)]
struct Reading<'a> {
    suite: &'static str,
    row: &'a SourceRow,
    fields: &'a Map<String, Value>,
}

impl<'a> Reading<'a> {
    fn new(suite: &'static str, row: &'a SourceRow) -> Self {
        Self {
            suite,
            row,
            fields: &row.fields,
        }
    }

    fn fault(&self, message: impl Into<String>) -> EvaluateError {
        EvaluateError::Layout {
            suite: self.suite,
            place: self.row.place.clone(),
            message: message.into(),
        }
    }

    fn value(&self, column: &str) -> Result<&'a Value> {
        self.fields.get(column).ok_or_else(|| {
            let found: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            self.fault(format!("no column `{column}`; there are {}", found.join(", ")))
        })
    }

    fn text(&self, column: &str) -> Result<&'a str> {
        self.value(column)?
            .as_str()
            .ok_or_else(|| self.fault(format!("`{column}` is not text")))
    }

    /// Text that is not empty.
    fn words(&self, column: &str) -> Result<&'a str> {
        let text = self.text(column)?;
        if text.trim().is_empty() {
            return Err(self.fault(format!("`{column}` is empty")));
        }
        Ok(text)
    }

    fn optional_text(&self, column: &str) -> Result<Option<&'a str>> {
        match self.fields.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(column).map(Some),
        }
    }

    fn texts(&self, column: &str) -> Result<Vec<String>> {
        let items = self.value(column)?.as_array();
        let texts = items.and_then(|items| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        });
        texts.ok_or_else(|| self.fault(format!("`{column}` is not a list of texts")))
    }

    /// The id of the row: text or a number.
    fn id(&self, column: &str) -> Result<String> {
        match self.value(column)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.fault(format!("`{column}` is neither text nor a number"))),
        }
    }

    /// The fields of a struct column.
    fn inner(&self, column: &str) -> Result<Self> {
        let fields = self
            .value(column)?
            .as_object()
            .ok_or_else(|| self.fault(format!("`{column}` is not a struct")))?;
        Ok(Self { fields, ..*self })
    }
}
