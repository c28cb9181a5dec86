//! Typed reading of a request's fields. `null` is the same as leaving a field out, as OpenAI has it.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// The fields of a request or of an object inside it, with the path that errors name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Params<'a> {
    fields: &'a Map<String, Value>,
    path: &'a str,
}

/// What a JSON value is, for error messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

impl<'a> Params<'a> {
    /// The fields at the top of a request.
    pub(crate) fn new(fields: &'a Map<String, Value>) -> Self {
        Self { fields, path: "" }
    }

    /// The fields of an object that stands at `path`.
    pub(crate) fn at(fields: &'a Map<String, Value>, path: &'a str) -> Self {
        Self { fields, path }
    }

    /// The fields of a value that stands at `path` and must be an object.
    pub(crate) fn of(value: &'a Value, path: &'a str) -> Result<Self, ApiError> {
        match value.as_object() {
            Some(fields) => Ok(Self { fields, path }),
            None => Err(ApiError::field(
                path,
                format!("must be an object, found {}", kind_of(value)),
            )),
        }
    }

    /// A field's full name.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.fields.keys().map(String::as_str)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// Refuses fields other than these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.names().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(ApiError::field(self.path_of(name), "is not a known field").code("unknown_parameter")),
        }
    }

    pub(crate) fn require(&self, name: &str) -> Result<&'a Value, ApiError> {
        self.get(name)
            .ok_or_else(|| ApiError::field(self.path_of(name), "is required"))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "must be true or false", Value::as_bool)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "must be a string", Value::as_str)
    }

    pub(crate) fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        // JSON has one type of number: some clients write whole ones with a point.
        let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0 && number < 9.0e15).then_some(number as u64);
        let count = |value: &Value| {
            let number = value.as_u64().or_else(|| value.as_f64().and_then(whole));
            number.and_then(|number| usize::try_from(number).ok())
        };
        self.typed(name, "must be a whole number of at least 0", count)
    }

    pub(crate) fn float(&self, name: &str) -> Result<Option<f32>, ApiError> {
        self.typed(name, "must be a number", |value| {
            value.as_f64().map(|number| number as f32)
        })
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.typed(name, "must be an object", Value::as_object)
    }

    pub(crate) fn array(&self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        self.typed(name, "must be an array", |value| value.as_array().map(Vec::as_slice))
    }

    /// A seed: any whole number of 64 bits.
    pub(crate) fn seed(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let seed = |value: &Value| value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
        self.typed(name, "must be a whole number of 64 bits", seed)
    }

    /// A string or an array of strings.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, ApiError> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.item(name, index, item))
                .collect(),
            Some(other) => Err(self.mismatch(name, "must be a string or an array of strings", other)),
        }
    }

    fn item(&self, name: &str, index: usize, item: &Value) -> Result<String, ApiError> {
        let wrong = || self.mismatch(&format!("{name}[{index}]"), "must be a string", item);
        item.as_str().map(str::to_owned).ok_or_else(wrong)
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| self.mismatch(name, expected, value))
    }

    pub(crate) fn mismatch(&self, name: &str, expected: &str, found: &Value) -> ApiError {
        // A number of the wrong sort is best shown itself.
        let found = if found.is_number() {
            found.to_string()
        } else {
            kind_of(found).to_owned()
        };
        ApiError::field(self.path_of(name), format!("{expected}, found {found}"))
    }
}
