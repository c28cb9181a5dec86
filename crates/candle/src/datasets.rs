//! Micro-batches by candle-datasets' [`Batcher`] (feature `candle-datasets`).
//!
//! The `Batcher` stacks tensors of one shape, while packed rows have different lengths. Rows are therefore padded to the
//! longest one, stacked, and laid end to end again without the padding, which is how the decoders read a micro-batch. The
//! result is the same [`MicroBatch`] that [`MicroBatch::push`] builds.
//!
//! What this is not: a reader of datasets. Rows come prepared from `synapse-data`.

use candle_core::{Device, Result, Tensor};
use candle_datasets::Batcher;
use synapse_nn::MicroBatch;

/// The label of positions without a target, here those of the padding.
const IGNORED: i64 = -100;

/// A packed row: one or more documents end to end.
#[derive(Debug, Clone, Copy)]
pub struct BatchRow<'a> {
    /// Token ids, `[tokens]`.
    pub input_ids: &'a [u32],
    /// Labels aligned with the ids, −100 where there is no target, `[tokens]`.
    pub labels: &'a [i64],
    /// Tokens of each document, `[documents]`.
    pub lengths: &'a [u32],
}

/// Groups rows into micro-batches of `batch_size` rows; the last one may be smaller.
///
/// # Errors
/// A row whose ids and labels differ in number.
pub fn micro_batches(rows: &[BatchRow<'_>], batch_size: usize) -> Result<Vec<MicroBatch>> {
    let longest = rows.iter().map(|row| row.input_ids.len()).max().unwrap_or(0);
    let padded = rows.iter().map(|row| {
        Ok((
            padded(row.input_ids, longest, 0)?,
            padded(row.labels, longest, IGNORED)?,
        ))
    });
    let stacked = Batcher::new_r2(padded)
        .batch_size(batch_size)
        .return_last_incomplete_batch(true);
    stacked
        .zip(rows.chunks(batch_size.max(1)))
        .map(|(tensors, rows)| {
            let (ids, labels) = tensors?; // both [rows, longest]
            unpadded(&ids.to_vec2()?, &labels.to_vec2()?, rows)
        })
        .collect()
}

/// A row's values on the host with padding at the end, `[longest]`.
fn padded<T: candle_core::WithDType>(values: &[T], longest: usize, padding: T) -> Result<Tensor> {
    let mut values = values.to_vec();
    values.resize(longest, padding);
    Tensor::from_vec(values, longest, &Device::Cpu)
}

/// Stacked rows laid end to end without their padding.
fn unpadded(ids: &[Vec<u32>], labels: &[Vec<i64>], rows: &[BatchRow<'_>]) -> Result<MicroBatch> {
    let mut batch = MicroBatch::default();
    for ((ids, labels), row) in ids.iter().zip(labels).zip(rows) {
        let tokens = row.input_ids.len();
        if row.labels.len() != tokens {
            candle_core::bail!("a row has {tokens} tokens and {} labels", row.labels.len());
        }
        batch.push(&ids[..tokens], &labels[..tokens], row.lengths);
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]

    use super::*;

    const ROWS: [BatchRow<'static>; 3] = [
        BatchRow {
            input_ids: &[5, 6, 7],
            labels: &[-100, 6, 7],
            lengths: &[3],
        },
        BatchRow {
            input_ids: &[1, 2, 3, 4, 9],
            labels: &[-100, 2, -100, 4, 9],
            lengths: &[2, 3],
        },
        BatchRow {
            input_ids: &[8, 0],
            labels: &[8, 0],
            lengths: &[2],
        },
    ];

    #[test]
    fn the_batcher_gives_the_micro_batches_that_rows_give_one_by_one() {
        for batch_size in 1..5 {
            let expected: Vec<MicroBatch> = ROWS
                .chunks(batch_size)
                .map(|rows| {
                    let mut batch = MicroBatch::default();
                    for row in rows {
                        batch.push(row.input_ids, row.labels, row.lengths);
                    }
                    batch
                })
                .collect();
            assert_eq!(micro_batches(&ROWS, batch_size).unwrap(), expected, "{batch_size} rows");
        }
        assert_eq!(micro_batches(&[], 2).unwrap(), []);
    }

    #[test]
    fn rows_with_too_few_labels_are_refused() {
        let row = BatchRow {
            labels: &[5, 6],
            ..ROWS[0]
        };
        let error = micro_batches(&[row], 1).unwrap_err().to_string();
        assert!(error.contains("3 tokens and 2 labels"), "{error}");
    }
}
