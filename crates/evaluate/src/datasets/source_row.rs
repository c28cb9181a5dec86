//! One row of a dataset's file, and reading its columns with errors that name the row.

use serde_json::{Map, Value};

use crate::{EvaluateError, Result};

/// One row of a suite's file.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRow {
    /// Where it stands, such as `test.parquet: row 3`.
    pub location: String,
    /// Column → value.
    pub fields: Map<String, Value>,
}

impl SourceRow {
    /// A row of a suite's file.
    pub fn new(location: impl Into<String>, fields: Map<String, Value>) -> Self {
        Self {
            location: location.into(),
            fields,
        }
    }
}

/// A row being read for one suite.
#[derive(Clone, Copy)]
pub(super) struct RowReader<'a> {
    suite: &'static str,
    row: &'a SourceRow,
    pub(super) fields: &'a Map<String, Value>,
}

impl<'a> RowReader<'a> {
    pub(super) fn new(suite: &'static str, row: &'a SourceRow) -> Self {
        Self {
            suite,
            row,
            fields: &row.fields,
        }
    }

    pub(super) fn invalid(&self, message: impl Into<String>) -> EvaluateError {
        EvaluateError::DatasetRow {
            suite: self.suite,
            location: self.row.location.clone(),
            message: message.into(),
        }
    }

    pub(super) fn value(&self, column: &str) -> Result<&'a Value> {
        self.fields.get(column).ok_or_else(|| {
            let found: Vec<&str> = self.fields.keys().map(String::as_str).collect();
            self.invalid(format!("no column `{column}`; the columns are {}", found.join(", ")))
        })
    }

    pub(super) fn text(&self, column: &str) -> Result<&'a str> {
        self.value(column)?
            .as_str()
            .ok_or_else(|| self.invalid(format!("`{column}` is not text")))
    }

    /// Text that is not empty.
    pub(super) fn nonempty_text(&self, column: &str) -> Result<&'a str> {
        let text = self.text(column)?;
        if text.trim().is_empty() {
            return Err(self.invalid(format!("`{column}` is empty")));
        }
        Ok(text)
    }

    pub(super) fn optional_text(&self, column: &str) -> Result<Option<&'a str>> {
        match self.fields.get(column) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(column).map(Some),
        }
    }

    pub(super) fn texts(&self, column: &str) -> Result<Vec<String>> {
        let items = self.value(column)?.as_array();
        let texts = items.and_then(|items| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        });
        texts.ok_or_else(|| self.invalid(format!("`{column}` is not a list of texts")))
    }

    /// The id of the row: text or a number.
    pub(super) fn id(&self, column: &str) -> Result<String> {
        match self.value(column)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err(self.invalid(format!("`{column}` is neither text nor a number"))),
        }
    }

    /// The fields of a struct column.
    pub(super) fn inner(&self, column: &str) -> Result<Self> {
        let fields = self
            .value(column)?
            .as_object()
            .ok_or_else(|| self.invalid(format!("`{column}` is not a struct")))?;
        Ok(Self { fields, ..*self })
    }
}
