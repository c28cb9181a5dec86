//! Which bytes of a file hold its first rows: asks for them piece by piece, so that a giant dataset is never fetched
//! whole. Rows of JSON and of tables are counted as they arrive; of a parquet file the footer, then the needed columns of
//! the first groups.
//!
//! Who fetches the bytes, and from where, is the caller's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};
use synapse_recipe::SourcePlan;

use crate::format::Normalizer;
use crate::read::{self, RowFile, Scan, parquet};
use crate::{DataError, Result};

/// Bytes asked for at once: at least, and at most.
const PIECE: (u64, u64) = (1 << 20, 32 << 20);

/// A file whose bytes arrive on demand, each at its own place.
#[derive(Debug, Clone, Copy)]
pub struct Part<'p> {
    /// Its name in the repository; the ending tells the format.
    pub name: &'p str,
    /// Where it lies, once bytes of it have been asked for.
    pub local: &'p Path,
    /// Bytes of the whole file.
    pub size: u64,
    /// Rows wanted from its beginning.
    pub rows: u64,
}

/// The first rows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    /// So many rows; fewer than wanted when the file has no more.
    pub rows: u64,
    /// sha256 over the bytes that hold them.
    pub sha256: String,
}

/// Asks for the bytes that hold a file's first rows, by `ensure`.
///
/// # Errors
/// What `ensure` says; a format whose beginning cannot be read without its end; columns that fit no format.
pub fn fetch_beginning<E: From<DataError>>(
    part: &Part<'_>,
    plan: &SourcePlan,
    ensure: &mut dyn FnMut(Range<u64>) -> std::result::Result<(), E>,
) -> std::result::Result<Beginning, E> {
    let file = RowFile {
        path: part.local,
        name: part.name,
        most: Some(part.rows),
    };
    // This name alone does not tell the format.
    if part.name.to_ascii_lowercase().ends_with(".json") {
        ensure(0..part.size.min(1 << 16))?;
    }
    match file.beginning()? {
        Some(read::Beginning::Rows(scan)) => rows(part, scan, ensure),
        Some(read::Beginning::RowGroups) => row_groups(part, &file, plan, ensure),
        None => Err(E::from(DataError::Request(format!(
            "{}: `first_rows` needs rows, and this file is one text; leave it out to fetch all of this one",
            part.name
        )))),
    }
}

fn rows<E: From<DataError>>(
    part: &Part<'_>,
    mut scan: Scan,
    ensure: &mut dyn FnMut(Range<u64>) -> std::result::Result<(), E>,
) -> std::result::Result<Beginning, E> {
    let (mut rows, mut at) = (0, 0);
    let mut hash = Sha256::new();
    while rows < part.rows && at < part.size {
        // Judging by the rows so far, with a little to spare.
        let missing = (at / rows.max(1) + 1) * (part.rows - rows) * 21 / 20;
        let end = (at + missing.clamp(PIECE.0, PIECE.1)).min(part.size);
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
    Ok(Beginning {
        rows,
        sha256: hex(&hash.finalize()),
    })
}

fn row_groups<E: From<DataError>>(
    part: &Part<'_>,
    file: &RowFile<'_>,
    plan: &SourcePlan,
    ensure: &mut dyn FnMut(Range<u64>) -> std::result::Result<(), E>,
) -> std::result::Result<Beginning, E> {
    let broken = || DataError::malformed(&part.name, "not a parquet file: it has no footer");
    let end = part.size.checked_sub(8).ok_or_else(broken)?;
    // Mostly the whole footer.
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
    Ok(Beginning {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
