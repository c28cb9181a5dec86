//! The first rows of a file that arrives in byte ranges, so that a huge dataset is never fetched completely. JSON and
//! table rows are counted as they arrive. Of a parquet file the footer is requested, then the needed columns of the first
//! row groups.
//!
//! What this is not: it fetches no bytes itself; the caller does.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};
use synapse_checkpoint::hex;
use synapse_recipe::{SourcePlan, row_file_ending};

use crate::format::Normalizer;
use crate::read::{self, RowFile, Scan, parquet};
use crate::{DataError, Result};

/// Bytes requested at once: the least and the most.
const REQUEST_BYTES: (u64, u64) = (1 << 20, 32 << 20);

/// A file whose bytes arrive on demand, each at its offset.
#[derive(Debug, Clone, Copy)]
pub struct RemoteFile<'p> {
    /// Its name in the repository; the extension determines the format.
    pub name: &'p str,
    /// Its path, once bytes of it have been requested.
    pub local: &'p Path,
    /// Bytes of the whole file.
    pub size: u64,
    /// Rows wanted.
    pub rows: u64,
}

/// The first rows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstRows {
    /// Number of rows; fewer than wanted if the file has no more.
    pub rows: u64,
    /// sha256 of the bytes that hold them.
    pub sha256: String,
}

/// Requests the bytes that hold a file's first rows by calling `ensure`.
///
/// # Errors
/// An error of `ensure`; a format that can only be read as a whole; columns that fit no format.
pub fn fetch_first_rows<E: From<DataError>>(
    part: &RemoteFile<'_>,
    plan: &SourcePlan,
    ensure: &mut dyn FnMut(Range<u64>) -> std::result::Result<(), E>,
) -> std::result::Result<FirstRows, E> {
    let file = RowFile {
        path: part.local,
        name: part.name,
        most: Some(part.rows),
    };
    // Of JSON only the first byte tells whether it is an array or lines.
    if row_file_ending(part.name).contains("json") {
        ensure(0..part.size.min(1 << 16))?;
    }
    match file.row_layout()? {
        Some(read::RowLayout::Rows(scan)) => rows(part, scan, ensure),
        Some(read::RowLayout::RowGroups) => row_groups(part, &file, plan, ensure),
        None => Err(E::from(DataError::Request(format!(
            "{}: `first_rows` needs rows that can be told apart in a part of the file, and this one is compressed, one \
             text or an Arrow file; leave `first_rows` out to fetch all of it",
            part.name
        )))),
    }
}

fn rows<E: From<DataError>>(
    part: &RemoteFile<'_>,
    mut scan: Scan,
    ensure: &mut dyn FnMut(Range<u64>) -> std::result::Result<(), E>,
) -> std::result::Result<FirstRows, E> {
    let (mut rows, mut at) = (0, 0);
    let mut hash = Sha256::new();
    while rows < part.rows && at < part.size {
        // An estimate from the rows so far, plus 5 %.
        let missing = (at / rows.max(1) + 1) * (part.rows - rows) * 21 / 20;
        let end = (at + missing.clamp(REQUEST_BYTES.0, REQUEST_BYTES.1)).min(part.size);
        ensure(at..end)?;
        let bytes = read_range(part.local, at..end)?;
        let mut used = bytes.len();
        for (index, byte) in bytes.iter().enumerate() {
            rows += u64::from(scan.ends_row(*byte));
            if rows == part.rows {
                used = index + 1;
                break;
            }
        }
        hash.update(&bytes[..used]);
        at += used as u64;
    }
    rows += u64::from(at == part.size && scan.is_inside_row() && rows < part.rows);
    Ok(FirstRows {
        rows,
        sha256: hex(&hash.finalize()),
    })
}

fn row_groups<E: From<DataError>>(
    part: &RemoteFile<'_>,
    file: &RowFile<'_>,
    plan: &SourcePlan,
    ensure: &mut dyn FnMut(Range<u64>) -> std::result::Result<(), E>,
) -> std::result::Result<FirstRows, E> {
    let broken = || DataError::malformed(&part.name, "not a parquet file: it has no footer");
    let end = part.size.checked_sub(8).ok_or_else(broken)?;
    // Usually this is the whole footer.
    ensure(part.size.saturating_sub(1 << 16)..part.size)?;
    let last: [u8; 8] = read_range(part.local, end..part.size)?
        .try_into()
        .map_err(|_| broken())?;
    let length = parquet::footer_length(&last)
        .filter(|length| *length <= part.size)
        .ok_or_else(broken)?;
    let footer = part.size - length..part.size;
    ensure(footer.clone())?;
    let normalizer =
        Normalizer::detect(&file.columns()?, plan.format, &plan.map).map_err(|message| DataError::Columns {
            dataset: format!("{} ({})", plan.dataset, part.name),
            message,
        })?;
    let (ranges, rows) = parquet::needed(file, &normalizer.columns(), part.rows)?;
    let mut hash = Sha256::new();
    for range in ranges.into_iter().chain([footer]) {
        ensure(range.clone())?;
        hash.update(read_range(part.local, range)?);
    }
    Ok(FirstRows {
        rows,
        sha256: hex(&hash.finalize()),
    })
}

fn read_range(path: &Path, range: Range<u64>) -> Result<Vec<u8>> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| DataError::io(path, error))
}
