//! One tensor from its base bytes and its inputs' changes to its output bytes, in parallel pieces of fixed size.

use half::{bf16, f16};
use rayon::prelude::*;
use synapse_checkpoint::DType;

use crate::combine::{Change, Piece, PieceReport, Rule};

/// Entries per unit of parallel work; fixed, so that the report's sums do not depend on the thread count.
const PIECE: usize = 1 << 16;
/// Entries converted between two looks at the rounding error.
const RUN: usize = 4096;

/// A tensor's values as they lie in a file, little-endian and row-major.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) dtype: DType,
}

/// Merges a whole tensor into `out`, the bytes of the same number of entries in `dtype`.
pub(crate) fn merge_tensor(
    base: Stored<'_>,
    changes: &[Change<'_>],
    rule: &Rule,
    dtype: DType,
    out: &mut [u8],
) -> PieceReport {
    let size = base.dtype.size();
    let pieces: Vec<PieceReport> = out
        .par_chunks_mut(PIECE * dtype.size())
        .zip(base.bytes.par_chunks(PIECE * size))
        .enumerate()
        .map_init(
            || (vec![0.0; PIECE], vec![0.0; PIECE]),
            |(theta, merged), (index, (out, bytes))| {
                let length = bytes.len() / size;
                let (theta, merged) = (&mut theta[..length], &mut merged[..length]);
                widen(
                    Stored {
                        bytes,
                        dtype: base.dtype,
                    },
                    theta,
                );
                let mut report = Piece {
                    changes,
                    rule,
                    start: index * PIECE,
                    base: theta,
                    merged: &mut *merged,
                }
                .combine();
                report.tally.rounding += round(merged, dtype, out);
                report
            },
        )
        .collect();
    let mut report = PieceReport::new(changes.len());
    for piece in &pieces {
        report.add(piece);
    }
    report
}

/// Rewrites a tensor in another dtype, rounding to nearest even. The sum is not finite when a value does not fit.
pub(crate) fn convert(stored: Stored<'_>, dtype: DType, out: &mut [u8]) -> f64 {
    let size = stored.dtype.size();
    out.par_chunks_mut(PIECE * dtype.size())
        .zip(stored.bytes.par_chunks(PIECE * size))
        .map(|(out, bytes)| {
            let mut values = vec![0.0; bytes.len() / size];
            widen(
                Stored {
                    bytes,
                    dtype: stored.dtype,
                },
                &mut values,
            );
            round(&values, dtype, out)
        })
        .sum()
}

/// δ = model − base in f32, where `delta` holds the model's values and gets the difference.
pub(crate) fn subtract(base: Stored<'_>, delta: &mut [f32]) {
    let size = base.dtype.size();
    delta
        .par_chunks_mut(PIECE)
        .zip(base.bytes.par_chunks(PIECE * size))
        .for_each(|(delta, bytes)| {
            let mut theta = vec![0.0; delta.len()];
            widen(
                Stored {
                    bytes,
                    dtype: base.dtype,
                },
                &mut theta,
            );
            for (delta, theta) in delta.iter_mut().zip(theta) {
                *delta -= theta;
            }
        });
}

/// f32 values of stored ones; exact. dtypes other than F32, F16 and BF16 never get here.
fn widen(stored: Stored<'_>, values: &mut [f32]) {
    match stored.dtype {
        DType::BF16 => {
            for (value, bytes) in values.iter_mut().zip(stored.bytes.as_chunks().0) {
                *value = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        DType::F16 => {
            for (value, bytes) in values.iter_mut().zip(stored.bytes.as_chunks().0) {
                *value = f16::from_le_bytes(*bytes).to_f32();
            }
        }
        _ => {
            for (value, bytes) in values.iter_mut().zip(stored.bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
    }
}

/// Stores values in `dtype`, to nearest even, and returns Σ (stored − value)², which is not finite when a value is
/// not or does not fit.
fn round(values: &[f32], dtype: DType, out: &mut [u8]) -> f64 {
    let mut error = 0.0;
    for (values, out) in values.chunks(RUN).zip(out.chunks_mut(RUN * dtype.size())) {
        error += match dtype {
            DType::BF16 => each(values, out, |value| {
                let stored = bf16::from_f32(value);
                (stored.to_le_bytes(), stored.to_f32())
            }),
            DType::F16 => each(values, out, |value| {
                let stored = f16::from_f32(value);
                (stored.to_le_bytes(), stored.to_f32())
            }),
            _ => each(values, out, |value| (value.to_le_bytes(), value)),
        };
    }
    error
}

/// Stores a run of values and returns Σ (stored − value)².
fn each<const SIZE: usize>(values: &[f32], out: &mut [u8], store: impl Fn(f32) -> ([u8; SIZE], f32)) -> f64 {
    let mut lanes = [0.0_f64; 8];
    for (at, (&value, out)) in values.iter().zip(out.as_chunks_mut::<SIZE>().0).enumerate() {
        let (bytes, stored) = store(value);
        *out = bytes;
        let error = f64::from(stored - value);
        lanes[at % 8] += error * error;
    }
    lanes.iter().sum()
}
