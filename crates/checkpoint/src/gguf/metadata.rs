//! The key-value section of a GGUF file: reading it, and typed access with errors that name file and key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use crate::error::{CheckpointError, Result};

/// Arrays of arrays are allowed by the format, but never this deep.
const DEEPEST: usize = 4;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum MetadataValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    /// Values of one type; the type is kept for empty arrays.
    Array(MetadataType, Vec<MetadataValue>),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The type of a value, with the format's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum MetadataType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl MetadataType {
    fn from_number(number: u32) -> Option<Self> {
        use MetadataType::{Array, Bool, F32, F64, I8, I16, I32, I64, String, U8, U16, U32, U64};
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
            .into_iter()
            .find(|kind| *kind as u32 == number)
    }

    /// The fewest bytes a value of this type takes in a file.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl MetadataValue {
    /// The value's type.
    #[must_use]
    pub fn value_type(&self) -> MetadataType {
        match self {
            Self::U8(_) => MetadataType::U8,
            Self::I8(_) => MetadataType::I8,
            Self::U16(_) => MetadataType::U16,
            Self::I16(_) => MetadataType::I16,
            Self::U32(_) => MetadataType::U32,
            Self::I32(_) => MetadataType::I32,
            Self::F32(_) => MetadataType::F32,
            Self::Bool(_) => MetadataType::Bool,
            Self::String(_) => MetadataType::String,
            Self::Array(..) => MetadataType::Array,
            Self::U64(_) => MetadataType::U64,
            Self::I64(_) => MetadataType::I64,
            Self::F64(_) => MetadataType::F64,
        }
    }

    /// The value as the format stores it (without its type), for writing.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(value) => out.push(*value),
            Self::I8(value) => out.extend(value.to_le_bytes()),
            Self::U16(value) => out.extend(value.to_le_bytes()),
            Self::I16(value) => out.extend(value.to_le_bytes()),
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::I32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push(u8::from(*value)),
            Self::String(text) => {
                out.extend((text.len() as u64).to_le_bytes());
                out.extend(text.as_bytes());
            }
            Self::Array(kind, values) => {
                out.extend((*kind as u32).to_le_bytes());
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| value.write(out));
            }
            Self::U64(value) => out.extend(value.to_le_bytes()),
            Self::I64(value) => out.extend(value.to_le_bytes()),
            Self::F64(value) => out.extend(value.to_le_bytes()),
        }
    }

    /// A whole number of any width, if it is one and not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::U64(value) => Some(value),
            Self::I8(value) => value.try_into().ok(),
            Self::I16(value) => value.try_into().ok(),
            Self::I32(value) => value.try_into().ok(),
            Self::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }
}

/// The key-value section of one file.
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    values: BTreeMap<String, MetadataValue>,
}

impl Metadata {
    pub(super) fn read(cursor: &mut Cursor<'_>, path: &Path, count: u64) -> Result<Self> {
        let mut metadata = Self {
            path: path.to_owned(),
            values: BTreeMap::new(),
        };
        for _ in 0..count {
            let key = cursor.string("a metadata key")?;
            let kind = read_type(cursor, path, &key)?;
            let value = read_value(cursor, path, &key, kind, 0)?;
            if metadata.values.contains_key(&key) {
                return Err(metadata.error(&key, "appears twice"));
            }
            metadata.values.insert(key, value);
        }
        Ok(metadata)
    }

    /// All entries, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetadataValue)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// A value by key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.values.get(key)
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> CheckpointError {
        CheckpointError::field(&self.path, key, message)
    }

    fn require<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(key, "is missing"))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        what: &str,
        convert: impl FnOnce(&'a MetadataValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        convert(value).map(Some).ok_or_else(|| {
            self.error(
                key,
                format!("must be {what}, found a value of type {:?}", value.value_type()),
            )
        })
    }

    pub(super) fn optional_u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number", MetadataValue::as_u64)
    }

    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let size = self.optional_u64(key)?;
        size.map(|size| usize::try_from(size).map_err(|_| self.error(key, format!("is {size}, too large"))))
            .transpose()
    }

    pub(super) fn size(&self, key: &str) -> Result<usize> {
        self.require(key, self.optional_size(key)?)
    }

    pub(super) fn optional_token_id(&self, key: &str) -> Result<Option<u32>> {
        let id = self.optional_u64(key)?;
        id.map(|id| u32::try_from(id).map_err(|_| self.error(key, format!("is {id}, no token id"))))
            .transpose()
    }

    /// A number; an f32 becomes the f64 of the same shortest decimal, so 1e-5 stays 1e-5.
    pub(super) fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match value {
            MetadataValue::F32(value) => value.to_string().parse().ok(),
            MetadataValue::F64(value) => Some(*value),
            other => other.as_u64().map(|value| value as f64),
        })
    }

    pub(super) fn number(&self, key: &str) -> Result<f64> {
        self.require(key, self.optional_number(key)?)
    }

    pub(super) fn optional_flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            MetadataValue::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    pub(super) fn optional_text(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "text", |value| match value {
            MetadataValue::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub(super) fn text(&self, key: &str) -> Result<&str> {
        self.require(key, self.optional_text(key)?)
    }

    pub(super) fn array(&self, key: &str) -> Result<&[MetadataValue]> {
        let values = self.typed(key, "a list", |value| match value {
            MetadataValue::Array(_, values) => Some(values.as_slice()),
            _ => None,
        })?;
        self.require(key, values)
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<&str>> {
        let mut texts = Vec::new();
        for value in self.array(key)? {
            let MetadataValue::String(text) = value else {
                return Err(self.error(key, "must be a list of texts"));
            };
            texts.push(text.as_str());
        }
        Ok(texts)
    }
}

fn read_type(cursor: &mut Cursor<'_>, path: &Path, key: &str) -> Result<MetadataType> {
    let number = cursor.u32()?;
    MetadataType::from_number(number)
        .ok_or_else(|| CheckpointError::field(path, key, format!("has the unknown type {number}")))
}

fn read_value(
    cursor: &mut Cursor<'_>,
    path: &Path,
    key: &str,
    kind: MetadataType,
    depth: usize,
) -> Result<MetadataValue> {
    Ok(match kind {
        MetadataType::U8 => MetadataValue::U8(u8::from_le_bytes(cursor.array()?)),
        MetadataType::I8 => MetadataValue::I8(i8::from_le_bytes(cursor.array()?)),
        MetadataType::U16 => MetadataValue::U16(u16::from_le_bytes(cursor.array()?)),
        MetadataType::I16 => MetadataValue::I16(i16::from_le_bytes(cursor.array()?)),
        MetadataType::U32 => MetadataValue::U32(cursor.u32()?),
        MetadataType::I32 => MetadataValue::I32(i32::from_le_bytes(cursor.array()?)),
        MetadataType::F32 => MetadataValue::F32(f32::from_le_bytes(cursor.array()?)),
        MetadataType::Bool => MetadataValue::Bool(cursor.array::<1>()? != [0]),
        MetadataType::String => MetadataValue::String(cursor.string(&format!("`{key}`"))?),
        MetadataType::U64 => MetadataValue::U64(cursor.u64()?),
        MetadataType::I64 => MetadataValue::I64(i64::from_le_bytes(cursor.array()?)),
        MetadataType::F64 => MetadataValue::F64(f64::from_le_bytes(cursor.array()?)),
        MetadataType::Array => {
            if depth == DEEPEST {
                return Err(CheckpointError::field(
                    path,
                    key,
                    format!("nests lists more than {DEEPEST} deep"),
                ));
            }
            let kind = read_type(cursor, path, key)?;
            let count = cursor.u64()?;
            cursor.expect(count.saturating_mul(kind.least_bytes()))?;
            let values = (0..count)
                .map(|_| read_value(cursor, path, key, kind, depth + 1))
                .collect::<Result<_>>()?;
            MetadataValue::Array(kind, values)
        }
    })
}
