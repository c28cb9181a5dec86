//! A merge extracted as a LoRA adapter: the change of every linear module, truncated to a rank by its singular values.
//!
//! The factors are B = U·√Σ and A = √Σ·Vᵀ of the largest singular values, with alpha = rank, so B·A is the nearest
//! matrix of that rank to the merged change. Subspace iteration finds them (Halko, Martinsson & Tropp 2011, algorithm
//! 4.4), started from numbers drawn by the tensor's name, with sums in a fixed order: the same adapter everywhere.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use synapse_checkpoint::{AdapterConfig, AdapterTensor, Staged, write_adapter, write_atomic};

use crate::inputs::Inputs;
use crate::merge::{MergeProgress, check_pinned};
use crate::plan::{TensorPlan, plan};
use crate::random::Stream;
use crate::sink::{Sink, StoreResult};
use crate::tensor_merger::TensorMerger;
use crate::tiles::{RowSource, Workspace};
use crate::{MergeError, MergeRequest, Result, merge_file};

/// Columns beyond the rank (oversampling), so that the iteration finds the last singular values as well.
const MORE: usize = 8;
/// Rounds of the iteration; each squares the ratio of singular values that are kept to those that are not.
const ROUNDS: usize = 4;
/// Columns of δ that share a pass over its rows.
const STRIP: usize = 64;

/// The result of an extraction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Extraction {
    /// Adapted modules.
    pub modules: usize,
    /// Share of the merged change's energy (its sum of squares) that the adapter has.
    pub energy: f64,
}

/// One module's factors.
struct Factored {
    module: String,
    rows: usize,
    columns: usize,
    /// [rank, columns]
    a: Vec<f32>,
    /// [rows, rank]
    b: Vec<f32>,
    /// Σ σ² of what is kept, and Σ δ².
    energy: (f64, f64),
}

/// Holds the merged values of one tensor.
#[derive(Default)]
struct TensorSink(Mutex<Vec<f32>>);

impl Sink for TensorSink {
    fn store(&self, _: &str, start: usize, values: &[f32], _: &mut Vec<u8>) -> Result<StoreResult> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = start + values.len();
        if held.len() < end {
            held.resize(end, 0.0);
        }
        held[start..end].copy_from_slice(values);
        Ok(StoreResult {
            error: 0.0,
            checksum: crc32fast::Hasher::new(),
        })
    }
}

/// Merges as requested and publishes the change, truncated to `rank`, as a PEFT adapter folder at `request.out`.
///
/// # Errors
/// As [`crate::merge`], and a merge that changes a tensor for which LoRA has no factors.
pub fn extract_lora(request: &MergeRequest, rank: usize, progress: &dyn Fn(MergeProgress<'_>)) -> Result<Extraction> {
    let inputs = Inputs::open(request)?;
    let plans = plan(request, &inputs.config);
    let staged = Staged::beside(&request.out)?;
    let linear = inputs.base.config().linear_modules();
    let merger = TensorMerger::new(request, &inputs, &plans)?;
    let mut workspace = Workspace::shared(request.tile_budget);
    let mut factored = Vec::new();
    let mut refused = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        if !merger.source.tensors[index].inputs.is_empty() {
            let held = TensorSink::default();
            merger.merge(index, &held, &mut workspace)?;
            let mut delta = held.0.into_inner().unwrap_or_else(PoisonError::into_inner);
            let mut base = vec![0.0; delta.len()];
            let (rows, columns) = crate::tiles::rows_and_columns(&plan.shape);
            inputs.base_rows(plan).read(0..rows, &[], &mut base)?;
            delta.iter_mut().zip(&base).for_each(|(merged, base)| *merged -= base);
            let module = module_of(plan, &linear);
            match module {
                Some(module) => factored.push(factor(request, plan, module, (rows, columns), &delta, rank)),
                None if delta.iter().any(|&x| x != 0.0) => refused.push(plan.name.clone()),
                None => {}
            }
        }
        progress(MergeProgress {
            tensor: &plan.name,
            done: index + 1,
            total: plans.len(),
            bytes: index as u64 + 1,
            total_bytes: plans.len() as u64,
            resumed: 0,
        });
    }
    if let Some(first) = refused.first() {
        let more = refused.len() - 1;
        return Err(MergeError::request(format!(
            "--extract-lora: the merge changes {first} and {more} more tensors that are not linear modules of a \
             layer; LoRA cannot represent them, so merge into a folder instead"
        )));
    }
    publish(request, &inputs, rank, &factored, staged)
}

fn publish(
    request: &MergeRequest,
    inputs: &Inputs,
    rank: usize,
    factored: &[Factored],
    staged: Staged,
) -> Result<Extraction> {
    let hashes = check_pinned(request, inputs.hashes()?)?;
    let targets: BTreeSet<String> = factored
        .iter()
        .filter_map(|factored| Some(factored.module.rsplit('.').next()?.to_owned()))
        .collect();
    let targets: Vec<String> = targets.into_iter().collect();
    let config = AdapterConfig::lora(&request.reference_of(&request.base), rank, rank as f64, &targets);
    let tensors: Vec<AdapterTensor<'_>> = factored
        .iter()
        .map(|factored| AdapterTensor {
            module: &factored.module,
            rank,
            in_features: factored.columns,
            out_features: factored.rows,
            a: &factored.a,
            b: &factored.b,
        })
        .collect();
    write_adapter(staged.path(), &config, &tensors)?;
    let text = merge_file::write(request, &hashes, synapse_checkpoint::DType::F32);
    write_atomic(&staged.path().join(merge_file::FILE), text.as_bytes())?;
    staged.publish()?;
    let (kept, all) = factored.iter().fold((0.0, 0.0), |(kept, all), factored| {
        (kept + factored.energy.0, all + factored.energy.1)
    });
    Ok(Extraction {
        modules: factored.len(),
        energy: if all > 0.0 { kept / all } else { 1.0 },
    })
}

/// The linear module that a tensor is the weight of.
fn module_of<'p>(plan: &'p TensorPlan, linear: &[(&'static str, usize, usize)]) -> Option<&'p str> {
    let module = plan.name.strip_suffix(".weight")?;
    let (_, within) = module.strip_prefix("model.layers.")?.split_once('.')?;
    linear.iter().any(|(name, ..)| *name == within).then_some(module)
}

fn factor(
    request: &MergeRequest,
    plan: &TensorPlan,
    module: &str,
    (rows, columns): (usize, usize),
    delta: &[f32],
    rank: usize,
) -> Factored {
    let stream = Stream::new(request.seed, "extract", "", &plan.name);
    let width = (rank + MORE).min(rows).min(columns);
    let mut right: Vec<f64> = (0..columns * width)
        .map(|at| f64::from(stream.draw(at as u64)) / 2_147_483_648.0 - 1.0)
        .collect();
    for _ in 0..ROUNDS {
        let mut left = times(delta, columns, &right, width);
        orthonormalize(&mut left, width);
        right = transposed_times(delta, columns, &left, width);
        if right.iter().all(|&x| x == 0.0) {
            break;
        }
        orthonormalize(&mut right, width);
    }
    let mut left = times(delta, columns, &right, width);
    orthonormalize(&mut left, width);
    // δ ≈ left · rightᵀ; the small matrix rightᵀ·right has the squares of its singular values.
    right = transposed_times(delta, columns, &left, width);
    let (values, vectors) = eigen(gram(&right, width), width);
    let rank_here = rank.min(width);
    let (mut a, mut b) = (vec![0.0; rank * columns], vec![0.0; rows * rank]);
    for (slot, &index) in values.1.iter().take(rank_here).enumerate() {
        let sigma = values.0[index].max(0.0).sqrt();
        let root = sigma.sqrt();
        if root == 0.0 {
            continue;
        }
        let mix = |matrix: &[f64], row: usize| -> f64 {
            (0..width)
                .map(|k| matrix[row * width + k] * vectors[k * width + index])
                .sum()
        };
        for row in 0..rows {
            b[row * rank + slot] = (mix(&left, row) * root) as f32;
        }
        for column in 0..columns {
            a[slot * columns + column] = (mix(&right, column) / root) as f32;
        }
    }
    let kept = values
        .1
        .iter()
        .take(rank_here)
        .map(|&index| values.0[index].max(0.0))
        .sum();
    Factored {
        module: module.to_owned(),
        rows,
        columns,
        a,
        b,
        energy: (kept, delta.iter().map(|&x| f64::from(x) * f64::from(x)).sum()),
    }
}

/// δ · right, [rows, width].
fn times(delta: &[f32], columns: usize, right: &[f64], width: usize) -> Vec<f64> {
    let rows = delta.len() / columns.max(1);
    let mut out = vec![0.0; rows * width];
    out.par_chunks_mut(width)
        .zip(delta.par_chunks(columns))
        .for_each(|(out, row)| {
            for (&x, right) in row.iter().zip(right.chunks_exact(width)) {
                let x = f64::from(x);
                out.iter_mut().zip(right).for_each(|(sum, right)| *sum += x * right);
            }
        });
    out
}

/// δᵀ · left, [columns, width].
fn transposed_times(delta: &[f32], columns: usize, left: &[f64], width: usize) -> Vec<f64> {
    let mut out = vec![0.0; columns * width];
    out.par_chunks_mut(STRIP * width).enumerate().for_each(|(strip, out)| {
        let first = strip * STRIP;
        for (row, left) in delta.chunks_exact(columns).zip(left.chunks_exact(width)) {
            for (&x, out) in row[first..].iter().zip(out.chunks_exact_mut(width)) {
                let x = f64::from(x);
                out.iter_mut().zip(left).for_each(|(sum, left)| *sum += x * left);
            }
        }
    });
    out
}

/// Gram and Schmidt, twice over, which is enough (Giraud et al. 2005). A column that depends on those before it becomes
/// zero.
fn orthonormalize(matrix: &mut [f64], width: usize) {
    let rows = matrix.len() / width.max(1);
    for column in 0..width {
        let norm = |matrix: &[f64]| {
            (0..rows)
                .map(|row| matrix[row * width + column].powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let before = norm(matrix);
        for _ in 0..2 {
            for earlier in 0..column {
                let product: f64 = (0..rows)
                    .map(|row| matrix[row * width + earlier] * matrix[row * width + column])
                    .sum();
                for row in 0..rows {
                    matrix[row * width + column] -= product * matrix[row * width + earlier];
                }
            }
        }
        let after = norm(matrix);
        let scale = if after > before * 1e-12 && after > 0.0 {
            1.0 / after
        } else {
            0.0
        };
        (0..rows).for_each(|row| matrix[row * width + column] *= scale);
    }
}

/// matrixᵀ · matrix, [width, width].
fn gram(matrix: &[f64], width: usize) -> Vec<f64> {
    let mut gram = vec![0.0; width * width];
    for row in matrix.chunks_exact(width) {
        for (left, slots) in row.iter().zip(gram.chunks_exact_mut(width)) {
            slots
                .iter_mut()
                .zip(row)
                .for_each(|(slot, right)| *slot += left * right);
        }
    }
    gram
}

/// Eigenvalues with their order from the largest, and eigenvectors as columns, by Jacobi's rotations.
fn eigen(mut matrix: Vec<f64>, width: usize) -> ((Vec<f64>, Vec<usize>), Vec<f64>) {
    let mut vectors: Vec<f64> = (0..width * width)
        .map(|at| f64::from(u8::from(at / width == at % width)))
        .collect();
    let total: f64 = matrix.iter().map(|x| x * x).sum();
    for _ in 0..50 {
        let off: f64 = (0..width * width)
            .filter(|at| at / width != at % width)
            .map(|at| matrix[at].powi(2))
            .sum();
        if off <= total * 1e-30 {
            break;
        }
        for p in 0..width {
            for q in p + 1..width {
                let apq = matrix[p * width + q];
                if apq == 0.0 {
                    continue;
                }
                let theta = (matrix[q * width + q] - matrix[p * width + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..width {
                    let (x, y) = (matrix[k * width + p], matrix[k * width + q]);
                    (matrix[k * width + p], matrix[k * width + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..width {
                    let (x, y) = (matrix[p * width + k], matrix[q * width + k]);
                    (matrix[p * width + k], matrix[q * width + k]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..width {
                    let (x, y) = (vectors[k * width + p], vectors[k * width + q]);
                    (vectors[k * width + p], vectors[k * width + q]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let values: Vec<f64> = (0..width).map(|at| matrix[at * (width + 1)]).collect();
    let mut order: Vec<usize> = (0..width).collect();
    order.sort_by(|&left, &right| values[right].total_cmp(&values[left]));
    ((values, order), vectors)
}
