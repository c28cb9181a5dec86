//! TensorBoard event files: length-prefixed protobuf records with masked CRC-32C, scalars only.
//! Format: tensorflow's `record_writer.h` and `event.proto`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::TrainError;

/// An open event file.
#[derive(Debug)]
pub(crate) struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Creates the event file in `folder`, replacing one of an earlier attempt.
    pub(crate) fn create(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join("events.out.tfevents.synapse");
        let file = File::create(&path).map_err(TrainError::io(&path))?;
        let mut events = Self { file, path };
        let mut version = Vec::new();
        field_bytes(&mut version, 3, b"brain.Event:2");
        events.record(&with_time(0.0, 0, &version))?;
        Ok(events)
    }

    /// Writes one scalar.
    pub(crate) fn scalar(&mut self, tag: &str, step: u64, seconds: f64, value: f32) -> Result<(), TrainError> {
        let mut inner = Vec::new();
        field_bytes(&mut inner, 1, tag.as_bytes());
        inner.push(2 << 3 | 5);
        inner.extend(value.to_le_bytes());
        let mut summary = Vec::new();
        field_bytes(&mut summary, 1, &inner);
        let mut rest = Vec::new();
        field_bytes(&mut rest, 5, &summary);
        self.record(&with_time(seconds, step, &rest))
    }

    fn record(&mut self, data: &[u8]) -> Result<(), TrainError> {
        let length = (data.len() as u64).to_le_bytes();
        let mut bytes = Vec::with_capacity(data.len() + 16);
        bytes.extend(length);
        bytes.extend(masked(&length).to_le_bytes());
        bytes.extend(data);
        bytes.extend(masked(data).to_le_bytes());
        self.file.write_all(&bytes).map_err(TrainError::io(&self.path))
    }
}

/// An Event message: wall time (1), step (2), then the given fields.
fn with_time(seconds: f64, step: u64, rest: &[u8]) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(seconds.to_le_bytes());
    event.push(2 << 3);
    varint(&mut event, step);
    event.extend(rest);
    event
}

fn field_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}
