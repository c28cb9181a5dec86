//! The header of a safetensors file: parsed with every claim checked against the file's length, and built again.
//! Tensor data is not touched here. Source of the rules: the format's README (contiguous data, no holes, no overlaps).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::dtype::DType;
use crate::error::{CheckpointError, Result};
use crate::positioned::read_exact_at;

/// The reference implementation's own limit on a header.
const LONGEST_HEADER: u64 = 100_000_000;

/// Type, shape and position of one stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Which of the opened files holds it.
    pub(crate) file: usize,
    /// First byte within that file.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) bytes: u64,
}

impl TensorInfo {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Length of the data in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// One file's parsed header.
pub(crate) struct Header {
    pub(crate) tensors: Vec<(String, TensorInfo)>,
    pub(crate) metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// Reads and checks the header of `file`; the infos carry `index` as their file. Tensors come in the order of their data.
pub(crate) fn read(file: &File, path: &Path, index: usize) -> Result<Header> {
    let length = file.metadata().map_err(CheckpointError::io("read", path))?.len();
    if length < 8 {
        return Err(CheckpointError::Length {
            path: path.to_owned(),
            expected: 8,
            actual: length,
        });
    }
    let mut size = [0; 8];
    read_exact_at(file, &mut size, 0).map_err(CheckpointError::io("read", path))?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST_HEADER {
        return Err(CheckpointError::format(
            path,
            format!("is not a safetensors file: its header would be {size} bytes long (limit {LONGEST_HEADER})"),
        ));
    }
    let start = 8 + size;
    if start > length {
        return Err(CheckpointError::Length {
            path: path.to_owned(),
            expected: start,
            actual: length,
        });
    }
    let mut text = vec![0; size as usize];
    read_exact_at(file, &mut text, 8).map_err(CheckpointError::io("read", path))?;
    let entries: UniqueEntries = serde_json::from_slice(&text)
        .map_err(|error| CheckpointError::format(path, format!("has a damaged safetensors header: {error}")))?;

    let mut metadata = BTreeMap::new();
    let mut tensors = Vec::with_capacity(entries.0.len());
    for (name, value) in entries.0 {
        if name == "__metadata__" {
            metadata = serde_json::from_value(value)
                .map_err(|error| CheckpointError::format(path, format!("has damaged metadata: {error}")))?;
            continue;
        }
        let entry: Entry = serde_json::from_value(value)
            .map_err(|error| CheckpointError::tensor(path, &name, format!("has a damaged header entry: {error}")))?;
        let info = check_entry(path, &name, &entry, start, index)?;
        tensors.push((name, info));
    }
    tensors.sort_by(|(left_name, left), (right_name, right)| {
        (left.offset, left.bytes, left_name).cmp(&(right.offset, right.bytes, right_name))
    });
    let mut end = start;
    for (name, info) in &tensors {
        if info.offset != end {
            let what = if info.offset < end {
                "overlaps the one before it"
            } else {
                "leaves a hole before it"
            };
            return Err(CheckpointError::tensor(
                path,
                name,
                format!("{what}: expected it to begin at byte {end}, found {}", info.offset),
            ));
        }
        end += info.bytes;
    }
    if end != length {
        return Err(CheckpointError::Length {
            path: path.to_owned(),
            expected: end,
            actual: length,
        });
    }
    Ok(Header { tensors, metadata })
}

fn check_entry(path: &Path, name: &str, entry: &Entry, start: u64, file: usize) -> Result<TensorInfo> {
    let dtype = DType::from_name(&entry.dtype).ok_or_else(|| {
        CheckpointError::tensor(path, name, format!("has the unsupported element type {}", entry.dtype))
    })?;
    let absurd = || CheckpointError::tensor(path, name, format!("has an impossible shape {:?}", entry.shape));
    let mut expected = dtype.size() as u64;
    for &size in &entry.shape {
        expected = expected.checked_mul(size).ok_or_else(absurd)?;
    }
    let shape = entry
        .shape
        .iter()
        .map(|&size| usize::try_from(size))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| absurd())?;
    // The element count as callers compute it must not overflow either, even where a zero elsewhere hides it above.
    shape
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size.max(1)))
        .ok_or_else(absurd)?;
    let [from, to] = entry.data_offsets;
    let bytes = to
        .checked_sub(from)
        .ok_or_else(|| CheckpointError::tensor(path, name, format!("ends before it begins: bytes {from} to {to}")))?;
    if bytes != expected {
        return Err(CheckpointError::tensor(
            path,
            name,
            format!(
                "of shape {:?} and type {dtype} needs {expected} bytes, its header entry says {bytes}",
                entry.shape
            ),
        ));
    }
    let offset = start
        .checked_add(from)
        .filter(|offset| offset.checked_add(bytes).is_some())
        .ok_or_else(absurd)?;
    Ok(TensorInfo {
        dtype,
        shape,
        file,
        offset,
        bytes,
    })
}

/// A JSON object whose keys must differ: a repeated tensor name is an attack or a fault, never a choice.
struct UniqueEntries(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = UniqueEntries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<UniqueEntries, A::Error> {
                let mut entries = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if entries.contains_key(&name) {
                        return Err(serde::de::Error::custom(format!("the name `{name}` appears twice")));
                    }
                    entries.insert(name, value);
                }
                Ok(UniqueEntries(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The bytes before the data of a file that holds `tensors` in this order, and where each tensor begins in the file.
/// Padded with spaces so that the data begins on a multiple of eight.
pub(crate) fn build(tensors: &[(&str, DType, &[usize])], metadata: &BTreeMap<String, String>) -> (Vec<u8>, Vec<u64>) {
    let mut entries = Map::new();
    if !metadata.is_empty() {
        entries.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut offsets = Vec::with_capacity(tensors.len());
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let bytes = byte_length(*dtype, shape);
        entries.insert(
            (*name).to_owned(),
            json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [end, end + bytes] }),
        );
        offsets.push(end);
        end += bytes;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut head = (text.len() as u64).to_le_bytes().to_vec();
    head.extend_from_slice(&text);
    for offset in &mut offsets {
        *offset += head.len() as u64;
    }
    (head, offsets)
}

/// Bytes that a tensor of this type and shape takes.
pub(crate) fn byte_length(dtype: DType, shape: &[usize]) -> u64 {
    shape.iter().fold(dtype.size() as u64, |product, &size| {
        product.saturating_mul(size as u64)
    })
}
