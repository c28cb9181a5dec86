//! Merged tensors in memory, as the bytes that a folder would hold, until they are taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;
use synapse_checkpoint::DType;

use crate::Result;
use crate::sink::{Format, Sink, StoreResult, format_of};

/// Holds the tensors of some names until they are taken.
#[derive(Debug)]
pub(crate) struct MemorySink<'a> {
    formats: &'a BTreeMap<String, Format>,
    tensors: BTreeMap<&'a str, Mutex<Vec<u8>>>,
}

impl<'a> MemorySink<'a> {
    /// A sink for tensors of these names.
    pub(crate) fn new(formats: &'a BTreeMap<String, Format>, names: impl Iterator<Item = &'a str>) -> Self {
        Self {
            formats,
            tensors: names.map(|name| (name, Mutex::default())).collect(),
        }
    }

    /// A tensor's dtype and bytes, once all of it was stored. They are removed.
    pub(crate) fn take(&self, tensor: &str) -> Option<(DType, Vec<u8>)> {
        let mut held = self.tensors.get(tensor)?.lock().unwrap_or_else(PoisonError::into_inner);
        Some((self.formats.get(tensor)?.dtype, std::mem::take(&mut *held)))
    }
}

impl Sink for MemorySink<'_> {
    fn store(&self, tensor: &str, start: usize, values: &[f32], bytes: &mut Vec<u8>) -> Result<StoreResult> {
        let format = format_of(self.formats, tensor)?;
        let error = format.bytes(tensor, start, values, bytes);
        if let Some(held) = self.tensors.get(tensor) {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let start = start * format.dtype.size();
            let end = start + bytes.len();
            if held.len() < end {
                held.resize(end, 0);
            }
            held[start..end].copy_from_slice(bytes);
        }
        Ok(StoreResult {
            error,
            checksum: Hasher::new(),
        })
    }
}
