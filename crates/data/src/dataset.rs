//! The packed training rows on disk: Arrow IPC streaming files, which Python's `datasets.Dataset.from_file` opens too.
//!
//! Three columns, each a list of int32 per row: `input_ids`, `labels` (−100 where nothing is learned, not shifted)
//! and `seq_lengths` (the documents in the row).

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ListArray, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use bytes::Bytes;
use synapse_checkpoint::MappedFile;

use crate::{DataError, Result};

/// How a stream ends: a continuation mark and no further message.
const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Rows of one record batch.
const BATCH_ROWS: usize = 64;
const COLUMNS: [&str; 3] = ["input_ids", "labels", "seq_lengths"];

/// One row as the step sees it: one or several documents one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackedRow {
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// Aligned with `input_ids`, not shifted; −100 where nothing is learned.
    pub labels: Vec<i64>,
    /// Length of each document in the row; they sum to `input_ids.len()`.
    pub seq_lengths: Vec<u32>,
}

/// Packed rows of one file, which stays on disk: token ids and labels are read where they are mapped, row by row.
#[derive(Debug)]
pub struct PackedDataset {
    batches: Vec<[ListArray; 3]>,
    /// Row number at which each batch ends.
    ends: Vec<usize>,
}

impl PackedDataset {
    /// Opens a file that [`crate::prepare()`] wrote. Only the rows' lengths are looked at.
    ///
    /// # Errors
    /// The file is missing, truncated, or has other columns; lengths inside a row do not add up.
    pub fn open(path: &Path) -> Result<Self> {
        let broken = |message: String| DataError::malformed(&path.display(), message);
        let unreadable = |error: ArrowError| broken(format!("not a readable Arrow stream: {error}"));
        let mapped = MappedFile::open(path)?;
        if !mapped.as_ref().ends_with(&END) {
            return Err(broken(
                "not a readable Arrow stream: its end is missing; prepare the data again".into(),
            ));
        }
        // No byte is copied: the arrays are views of the mapped file, which lives as long as they do.
        let mut stream = Buffer::from(Bytes::from_owner(mapped));
        let mut decoder = StreamDecoder::new();
        let mut dataset = Self {
            batches: Vec::new(),
            ends: Vec::new(),
        };
        while let Some(batch) = decoder.decode(&mut stream).map_err(unreadable)? {
            let mut columns = Vec::with_capacity(COLUMNS.len());
            for name in COLUMNS {
                let column = batch
                    .column_by_name(name)
                    .and_then(|column| column.as_list_opt::<i32>());
                let column = column.filter(|lists| lists.null_count() == 0 && lists.value_type() == DataType::Int32);
                columns.push(
                    column
                        .ok_or_else(|| broken(format!("no column `{name}` of int32 lists")))?
                        .clone(),
                );
            }
            let [ids, labels, lengths] =
                <[ListArray; 3]>::try_from(columns).map_err(|_| broken("no columns".into()))?;
            for row in 0..batch.num_rows() {
                let sum: i64 = numbers(&lengths, row).iter().map(|&length| i64::from(length)).sum();
                let (ids, labels) = (ids.value_length(row), labels.value_length(row));
                if ids != labels || i64::from(ids) != sum {
                    let row = dataset.len() + row;
                    return Err(broken(format!(
                        "row {row}: {ids} input_ids, {labels} labels and seq_lengths of {sum} must be equal"
                    )));
                }
            }
            dataset.ends.push(dataset.len() + batch.num_rows());
            dataset.batches.push([ids, labels, lengths]);
        }
        decoder.finish().map_err(unreadable)?;
        Ok(dataset)
    }

    /// Number of packed rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether there is no row at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The columns of the batch that holds a row, and the row's place in it.
    fn place(&self, index: usize) -> Option<(&[ListArray; 3], usize)> {
        let batch = self.ends.partition_point(|&end| end <= index);
        let row = index - batch.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some((self.batches.get(batch)?, row))
    }

    /// The lengths of one row's documents, in tokens; none if `index` is not below [`Self::len`].
    #[must_use]
    pub fn document_lengths(&self, index: usize) -> Vec<usize> {
        let Some(([.., lengths], row)) = self.place(index) else {
            return Vec::new();
        };
        numbers(lengths, row).iter().map(|&length| length as usize).collect()
    }

    /// One row; an empty one if `index` is not below [`Self::len`].
    #[must_use]
    pub fn row(&self, index: usize) -> PackedRow {
        let Some(([ids, labels, lengths], row)) = self.place(index) else {
            return PackedRow::default();
        };
        PackedRow {
            input_ids: numbers(ids, row).iter().map(|&id| id.cast_unsigned()).collect(),
            labels: numbers(labels, row).iter().map(|&label| i64::from(label)).collect(),
            seq_lengths: numbers(lengths, row)
                .iter()
                .map(|&length| length.cast_unsigned())
                .collect(),
        }
    }
}

fn numbers(lists: &ListArray, row: usize) -> &[i32] {
    let offsets = lists.value_offsets();
    let values = lists.values().as_primitive::<Int32Type>().values();
    &values[offsets[row] as usize..offsets[row + 1] as usize]
}

/// Writes rows beside `path` and renames them into place.
pub(crate) fn write_rows(path: &Path, rows: &[PackedRow]) -> Result<()> {
    let partial = path.with_extension("arrow.partial");
    let failed = |error: ArrowError| DataError::malformed(&path.display(), format!("cannot write: {error}"));
    let list = |name: &str| {
        let item = Arc::new(Field::new("item", DataType::Int32, true));
        Field::new(name, DataType::List(item), true)
    };
    let schema = Arc::new(Schema::new(COLUMNS.map(list).to_vec()));
    let file = File::create(&partial).map_err(|error| DataError::io(&partial, error))?;
    let mut writer = StreamWriter::try_new(BufWriter::new(file), &schema).map_err(failed)?;
    for chunk in rows.chunks(BATCH_ROWS) {
        let columns: Vec<Arc<dyn Array>> = vec![
            lists(chunk.iter().map(|row| row.input_ids.iter().map(|&id| i64::from(id)))),
            lists(chunk.iter().map(|row| row.labels.iter().copied())),
            lists(
                chunk
                    .iter()
                    .map(|row| row.seq_lengths.iter().map(|&length| i64::from(length))),
            ),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
    }
    let file = writer
        .into_inner()
        .map_err(failed)?
        .into_inner()
        .map_err(|error| DataError::io(path, error.into_error()))?;
    file.sync_all().map_err(|error| DataError::io(path, error))?;
    std::fs::rename(&partial, path).map_err(|error| DataError::io(path, error))
}

/// Token ids and labels are below 2³¹: vocabularies are.
fn lists<R: Iterator<Item = i64>>(rows: impl Iterator<Item = R>) -> Arc<dyn Array> {
    let mut builder = ListBuilder::new(Int32Builder::new());
    for row in rows {
        for number in row {
            builder.values().append_value(number as i32);
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use super::*;

    #[test]
    fn rows_come_back_as_written_and_truncation_is_seen() {
        let rows: Vec<PackedRow> = (1..200u32)
            .map(|n| PackedRow {
                input_ids: (0..n).collect(),
                labels: (0..n).map(|id| if id == 0 { -100 } else { i64::from(id) }).collect(),
                seq_lengths: vec![n],
            })
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.arrow");
        write_rows(&path, &rows).unwrap();
        let dataset = PackedDataset::open(&path).unwrap();
        assert_eq!(dataset.len(), rows.len());
        assert!((0..rows.len()).all(|index| dataset.row(index) == rows[index]));
        assert_eq!(dataset.row(rows.len()), PackedRow::default());
        assert_eq!(
            (dataset.document_lengths(150), dataset.document_lengths(rows.len())),
            (vec![151], vec![])
        );
        let bytes = std::fs::read(&path).unwrap();
        // Nothing is copied: the columns lie in memory as far from each other as in the file.
        let places: Vec<(usize, usize)> = dataset
            .batches
            .iter()
            .map(|[ids, ..]| {
                let values = ids.values().as_primitive::<Int32Type>().values().inner();
                let in_file = bytes
                    .windows(values.len())
                    .position(|window| window == values.as_slice());
                (in_file.unwrap(), values.as_ptr() as usize)
            })
            .collect();
        assert!(places.len() > 2);
        let held_out_source = |a: usize| (places[a].0 - places[0].0, places[a].1.wrapping_sub(places[0].1));
        assert!(
            (0..places.len()).all(|index| held_out_source(index).0 == held_out_source(index).1),
            "{places:?}"
        );

        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = PackedDataset::open(&path).unwrap_err().to_string();
        assert!(error.contains("not a readable Arrow stream"), "{error}");

        let uneven = PackedRow {
            input_ids: vec![1, 2],
            labels: vec![1, 2],
            seq_lengths: vec![3],
        };
        write_rows(&path, &[uneven]).unwrap();
        let error = PackedDataset::open(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("row 0: 2 input_ids, 2 labels and seq_lengths of 3 must be equal"),
            "{error}"
        );
    }
}
