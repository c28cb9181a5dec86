//! The merge itself: tensors pass one at a time from the inputs into a staged folder, which is published whole.

use std::collections::BTreeMap;
use std::path::Path;

use synapse_checkpoint::{DType, ShardedWriter, Staged, write_atomic};

use crate::combine::{Change, Divisor, Onto, PieceReport, Rule};
use crate::inputs::Inputs;
use crate::report::{FORMAT, InputReport, REPORT_FILE, Tally, share};
use crate::select::{Kept, largest};
use crate::tensor::{Stored, convert, merge_tensor};
use crate::{MergeError, MergeReport, MergeRequest, Method, Result, TensorReport, companions, merge_file};

/// How far a merge has come; reported after every tensor.
#[derive(Clone, Copy, Debug)]
pub struct MergeProgress<'a> {
    /// The tensor just written.
    pub tensor: &'a str,
    /// Tensors written so far.
    pub done: usize,
    /// Tensors of the output.
    pub total: usize,
    /// Bytes written so far.
    pub bytes: u64,
    /// Bytes of all output tensors.
    pub total_bytes: u64,
}

/// Merges as requested and publishes a model folder at `request.out`: weights, configuration, tokenizer, merge.yaml
/// (which makes the same bytes again) and merge_report.json. Memory holds one tensor's changes at a time.
///
/// # Errors
/// [`MergeError::Request`] lists everything wrong with the request and its folders before anything is written;
/// every other error leaves the output as it was.
pub fn merge(request: &MergeRequest, progress: &dyn Fn(MergeProgress<'_>)) -> Result<MergeReport> {
    let inputs = Inputs::open(request)?;
    let staged = Staged::beside(&request.out)?;
    let (report, hashes) = std::thread::scope(|scope| {
        let hashes = scope.spawn(|| inputs.hashes());
        let report = write_tensors(request, &inputs, staged.path(), progress)?;
        let hashes = hashes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, MergeError>((report, hashes))
    })?;
    let hashes: BTreeMap<_, _> = hashes.into_iter().collect();
    for (path, expected) in &request.pinned {
        match hashes.get(path) {
            Some(found) if found != expected => {
                let (path, expected, found) = (path.clone(), expected.clone(), found.clone());
                return Err(MergeError::InputChanged { path, expected, found });
            }
            _ => {}
        }
    }
    companions::copy(&inputs.base, request.dtype, staged.path())?;
    let stored = inputs.base.names().find_map(|name| Some(inputs.base.info(name)?.dtype));
    let text = merge_file::write(request, &hashes, stored.unwrap_or(DType::F32));
    write_atomic(&staged.path().join(merge_file::FILE), text.as_bytes())?;
    write_atomic(&staged.path().join(REPORT_FILE), &report.to_json())?;
    staged.publish()?;
    Ok(report)
}

/// Writes every tensor of the base, merged or copied, and returns the report.
fn write_tensors(
    request: &MergeRequest,
    inputs: &Inputs,
    folder: &Path,
    progress: &dyn Fn(MergeProgress<'_>),
) -> Result<MergeReport> {
    let base = &inputs.base;
    let layout: Vec<(String, DType, Vec<usize>)> = base
        .names()
        .filter_map(|name| {
            base.info(name)
                .map(|info| (name.to_owned(), request.dtype.unwrap_or(info.dtype), info.shape.clone()))
        })
        .collect();
    let size_of = |dtype: DType, shape: &[usize]| (shape.iter().product::<usize>() * dtype.size()) as u64;
    let total_bytes = layout.iter().map(|(_, dtype, shape)| size_of(*dtype, shape)).sum();
    let mut writer = ShardedWriter::create(folder, &layout, request.max_shard_bytes)?;
    let mut merger = Merger::new(request, inputs);
    let (mut stored, mut out) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for (index, (name, dtype, shape)) in layout.iter().enumerate() {
        base.read_bytes(name, &mut stored)?;
        let source = base.info(name).map_or(*dtype, |info| info.dtype);
        let theta = Stored {
            bytes: &stored,
            dtype: source,
        };
        let touching = inputs.touching(name);
        if touching.is_empty() && source == *dtype {
            writer.write(name, &stored)?;
        } else {
            out.resize(stored.len() / source.size() * dtype.size(), 0);
            if touching.is_empty() {
                if !convert(theta, *dtype, &mut out).is_finite() {
                    return Err(MergeError::Overflow {
                        tensor: name.clone(),
                        dtype: *dtype,
                    });
                }
            } else {
                merger.merge(
                    &Target {
                        name,
                        shape,
                        dtype: *dtype,
                    },
                    theta,
                    &touching,
                    &mut out,
                )?;
            }
            writer.write(name, &out)?;
        }
        bytes += size_of(*dtype, shape);
        progress(MergeProgress {
            tensor: name,
            done: index + 1,
            total: layout.len(),
            bytes,
            total_bytes,
        });
    }
    writer.finish()?;
    Ok(merger.report(layout.len()))
}

/// The tensor being made.
struct Target<'a> {
    name: &'a str,
    shape: &'a [usize],
    dtype: DType,
}

/// What stays the same from tensor to tensor, the buffers they share, and the report so far.
struct Merger<'a> {
    request: &'a MergeRequest,
    inputs: &'a Inputs,
    rule: Rule,
    /// One buffer an input, reused.
    deltas: Vec<Vec<f32>>,
    totals: Tally,
    tensors: Vec<TensorReport>,
}

impl<'a> Merger<'a> {
    fn new(request: &'a MergeRequest, inputs: &'a Inputs) -> Self {
        Self {
            request,
            inputs,
            rule: rule(request, inputs.whole),
            deltas: vec![Vec::new(); request.inputs().count()],
            totals: Tally::default(),
            tensors: Vec::new(),
        }
    }

    /// Merges one tensor into `out`: every touching input's change, its selection, then one pass over all of them.
    fn merge(&mut self, target: &Target<'_>, theta: Stored<'_>, touching: &[usize], out: &mut [u8]) -> Result<()> {
        for &index in touching {
            self.inputs.read(index, target.name, theta, &mut self.deltas[index])?;
        }
        let weights: Vec<f64> = self.request.inputs().map(|input| input.weight).collect();
        let changes = touching
            .iter()
            .map(|&index| {
                let delta = self.deltas[index].as_slice();
                let name = self.inputs.name(index);
                let kept = if self.request.method == Method::Ties {
                    let not_finite = || MergeError::NotFinite {
                        input: name.to_owned(),
                        tensor: target.name.to_owned(),
                    };
                    largest(delta, self.request.trim_of(name).kept(delta.len())).ok_or_else(not_finite)?
                } else {
                    Kept::ALL
                };
                Ok(Change {
                    delta,
                    weight: weights[index] as f32,
                    kept,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let sums = merge_tensor(theta, &changes, &self.rule, target.dtype, out);
        if !sums.tally.rounding.is_finite() {
            return Err(MergeError::Overflow {
                tensor: target.name.to_owned(),
                dtype: target.dtype,
            });
        }
        self.totals.add(&sums.tally);
        let inputs = touching
            .iter()
            .map(|&index| self.inputs.name(index).to_owned())
            .collect();
        self.tensors.push(describe(target, inputs, &sums));
        Ok(())
    }

    fn report(self, tensors: usize) -> MergeReport {
        let ties = self.request.method == Method::Ties;
        MergeReport {
            format: FORMAT,
            method: self.request.method.to_string(),
            sign: ties.then(|| self.request.sign.to_string()),
            inputs: self
                .request
                .inputs()
                .map(|input| InputReport {
                    name: input.name.clone(),
                    weight: input.weight,
                    trim: ties.then(|| self.request.trim_of(&input.name).to_string()),
                })
                .collect(),
            totals: self.totals.totals(),
            copied: tensors - self.tensors.len(),
            tensors: self.tensors,
        }
    }
}

/// A method in the terms of sparsify → elect → combine. `whole` says that inputs replace the base.
fn rule(request: &MergeRequest, whole: bool) -> Rule {
    let sum = request.inputs().map(|input| input.weight).sum::<f64>() as f32;
    let election = (request.method == Method::Ties).then_some((request.sign, request.zero_sign));
    let divisor = match request.method {
        _ if !request.normalize => Divisor::One,
        Method::Ties => Divisor::Agreeing,
        Method::Linear | Method::TaskArithmetic => Divisor::Fixed(sum),
    };
    // With adapters, linear is Σ wᵢ(θ + δᵢ): the base appears as often as there is weight.
    let onto = match request.method {
        Method::Linear if whole => Onto::Nothing,
        Method::Linear if !request.normalize => Onto::Scaled(sum),
        _ => Onto::Base,
    };
    Rule {
        election,
        divisor,
        lambda: request.lambda as f32,
        onto,
    }
}

/// One tensor's shares from its sums.
fn describe(target: &Target<'_>, inputs: Vec<String>, sums: &PieceReport) -> TensorReport {
    let tally = &sums.tally;
    let norms: Vec<f64> = sums.inputs.iter().map(|input| input.energy.sqrt()).collect();
    let pairs = (0..norms.len()).flat_map(|i| (i + 1..norms.len()).map(move |j| (i, j)));
    TensorReport {
        name: target.name.to_owned(),
        shape: target.shape.to_vec(),
        kept_share: sums
            .inputs
            .iter()
            .map(|input| share(input.kept as f64, tally.entries as f64))
            .collect(),
        trimmed_energy: sums
            .inputs
            .iter()
            .map(|input| share(input.energy - input.kept_energy, input.energy).max(0.0))
            .collect(),
        cosine: pairs
            .zip(&sums.products)
            .map(|((i, j), product)| {
                let norms = norms[i] * norms[j];
                if norms > 0.0 {
                    (product / norms).clamp(-1.0, 1.0)
                } else {
                    0.0
                }
            })
            .collect(),
        norm: norms,
        voters: tally.voters(),
        disagreement: tally.disagreement(),
        energy_lost: tally.energy_lost(),
        relative_update: tally.relative_update(),
        inputs,
    }
}
