//! Python values: equality, order, truth and text with Python's semantics.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value as Json;

/// A value of the small interpreter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PyValue {
    /// `None`.
    None,
    /// `True` or `False`; an integer in arithmetic.
    Bool(bool),
    /// An integer; arithmetic beyond 128 bits is an error, unlike in Python.
    Int(i128),
    /// A string, indexed by character.
    Str(String),
    /// A list.
    List(Vec<PyValue>),
    /// A tuple.
    Tuple(Vec<PyValue>),
}

/// A value, or the exception that Python would raise.
pub(super) type Evaluated = Result<PyValue, String>;

/// The integer that `value` is; `doing` names the operation in the error.
pub(super) fn integer(value: &PyValue, doing: &str) -> Result<i128, String> {
    value.as_int().ok_or_else(|| format!("cannot {doing} {}", value.kind()))
}

impl PyValue {
    /// The value of a JSON literal; arrays are lists.
    ///
    /// # Errors
    /// Fractions and objects are refused.
    pub fn from_json(json: &Json) -> Result<Self, String> {
        Ok(match json {
            Json::Null => Self::None,
            Json::Bool(value) => Self::Bool(*value),
            Json::String(text) => Self::Str(text.clone()),
            Json::Array(elements) => Self::List(elements.iter().map(Self::from_json).collect::<Result<_, _>>()?),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value.into()),
                (None, Some(value)) => Self::Int(value.into()),
                (None, None) => return Err(format!("{number} is not a whole number")),
            },
            Json::Object(_) => return Err("dictionaries are not understood".into()),
        })
    }

    /// Whether `self == expected` in Python.
    #[must_use]
    pub fn equals_json(&self, expected: &Json) -> bool {
        Self::from_json(expected).is_ok_and(|expected| self.equals(&expected))
    }

    /// Python's `==`: `True == 1`, and nothing equals a value of another kind.
    #[must_use]
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b))
            }
            _ => matches!((self.as_int(), other.as_int()), (Some(a), Some(b)) if a == b),
        }
    }

    /// Python's order, for values of one kind.
    pub(super) fn compare(&self, other: &Self) -> Result<Ordering, String> {
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => Ok(a.cmp(b)),
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                match a.iter().zip(b).find(|(a, b)| !a.equals(b)) {
                    Some((a, b)) => a.compare(b),
                    None => Ok(a.len().cmp(&b.len())),
                }
            }
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => Ok(a.cmp(&b)),
                _ => Err(format!("cannot compare {} with {}", self.kind(), other.kind())),
            },
        }
    }

    /// A total order that agrees with Python's where Python defines one; other pairs are ordered by kind.
    pub(super) fn total_order(&self, other: &Self) -> Ordering {
        let rank = |value: &Self| match value {
            Self::Bool(_) | Self::Int(_) => 0,
            Self::None => 1,
            Self::Str(_) => 2,
            Self::List(_) => 3,
            Self::Tuple(_) => 4,
        };
        match (self, other) {
            (Self::Str(a), Self::Str(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) | (Self::Tuple(a), Self::Tuple(b)) => {
                let unequal = a
                    .iter()
                    .zip(b)
                    .map(|(a, b)| a.total_order(b))
                    .find(|order| order.is_ne());
                unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            _ => rank(self)
                .cmp(&rank(other))
                .then_with(|| self.as_int().cmp(&other.as_int())),
        }
    }

    /// Its value in integer arithmetic.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Bool(value) => Some((*value).into()),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Str(text) => !text.is_empty(),
            Self::List(elements) | Self::Tuple(elements) => !elements.is_empty(),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Str(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
        }
    }

    /// The elements of an iteration over it.
    pub(super) fn elements(&self) -> Result<Vec<Self>, String> {
        match self {
            Self::Str(text) => Ok(text.chars().map(|c| Self::Str(c.into())).collect()),
            Self::List(elements) | Self::Tuple(elements) => Ok(elements.clone()),
            _ => Err(format!("cannot iterate over {}", self.kind())),
        }
    }

    /// Number of characters and elements, including nested ones; the memory limit counts these.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Str(text) => text.len(),
            Self::List(elements) | Self::Tuple(elements) => elements
                .iter()
                .map(Self::size)
                .fold(elements.len(), usize::saturating_add),
            _ => 1,
        }
    }

    /// Python's `str(…)`.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// Python's `repr(…)`.
impl fmt::Display for PyValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("None"),
            Self::Bool(true) => formatter.write_str("True"),
            Self::Bool(false) => formatter.write_str("False"),
            Self::Int(value) => write!(formatter, "{value}"),
            Self::Str(text) => {
                let quote = if text.contains('\'') && !text.contains('"') {
                    '"'
                } else {
                    '\''
                };
                let escaped = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t");
                let escaped = if quote == '\'' {
                    escaped.replace('\'', "\\'")
                } else {
                    escaped
                };
                write!(formatter, "{quote}{escaped}{quote}")
            }
            Self::List(elements) => {
                formatter.write_str("[")?;
                separated(formatter, elements)?;
                formatter.write_str("]")
            }
            Self::Tuple(elements) => {
                formatter.write_str("(")?;
                separated(formatter, elements)?;
                formatter.write_str(if elements.len() == 1 { ",)" } else { ")" })
            }
        }
    }
}

fn separated(formatter: &mut fmt::Formatter<'_>, elements: &[PyValue]) -> fmt::Result {
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            formatter.write_str(", ")?;
        }
        write!(formatter, "{element}")?;
    }
    Ok(())
}
