//! Where merged values go, tile by tile, from any thread: into the files of a model folder, into a GGUF file, or into a
//! comparison with an existing folder.

use std::collections::BTreeMap;

use crc32fast::Hasher;
use half::f16;
use pulp::{Arch, Simd, WithSimd};
use synapse_checkpoint::{DType, ModelFolder, ShardedWriter};
use synapse_export::GgufTarget;

use crate::inputs::Inputs;
use crate::plan::TensorPlan;
use crate::random::Stream;
use crate::{MergeError, MergeRequest, Result, Rounding};

/// Entries converted between two updates of the rounding error.
const RUN: usize = 1024;
/// Independent partial sums of that error: fixed, so that it does not depend on the vector width.
const CHAINS: usize = 64;

/// The outcome of storing some values.
#[derive(Clone, Debug)]
pub(crate) struct StoreResult {
    /// Σ (stored − value)²; not finite when a value is not or does not fit.
    pub(crate) error: f64,
    /// Checksum of the stored bytes.
    pub(crate) checksum: Hasher,
}

/// Takes values of output tensors.
pub(crate) trait Sink: Sync {
    /// Stores values of a tensor, whole rows, from entry `start` on. `bytes` is a buffer for their bytes; what it held
    /// before does not matter.
    fn store(&self, tensor: &str, start: usize, values: &[f32], bytes: &mut Vec<u8>) -> Result<StoreResult>;
}

/// How values become bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) dtype: DType,
    pub(crate) rounding: Rounding,
    pub(crate) seed: u64,
}

impl Format {
    /// Turns values from entry `start` of a tensor on into bytes, and returns Σ (stored − value)².
    pub(crate) fn bytes(&self, tensor: &str, start: usize, values: &[f32], out: &mut Vec<u8>) -> f64 {
        out.resize(values.len() * self.dtype.size(), 0);
        let stream = (self.rounding == Rounding::Stochastic && self.dtype != DType::F32)
            .then(|| Stream::new(self.seed, "rounding", "", tensor));
        match stream {
            None => round(values, self.dtype, out),
            Some(stream) => {
                let drawn: Vec<f32> = values
                    .iter()
                    .enumerate()
                    .map(|(at, &value)| drawn_neighbor(value, self.dtype, stream.draw((start + at) as u64)))
                    .collect();
                let rounding = drawn
                    .iter()
                    .zip(values)
                    .map(|(drawn, value)| f64::from(drawn - value) * f64::from(drawn - value))
                    .sum::<f64>();
                rounding + round(&drawn, self.dtype, out)
            }
        }
    }
}

/// How every output tensor is stored.
pub(crate) fn formats(request: &MergeRequest, inputs: &Inputs, plans: &[TensorPlan]) -> BTreeMap<String, Format> {
    let format = |plan: &TensorPlan| Format {
        dtype: request.dtype.unwrap_or_else(|| inputs.base_rows(plan).dtype()),
        rounding: request.rounding,
        seed: request.seed,
    };
    plans.iter().map(|plan| (plan.name.clone(), format(plan))).collect()
}

/// The files of a model folder being made.
#[derive(Debug)]
pub(crate) struct FolderSink<'a> {
    pub(crate) writer: &'a ShardedWriter,
    pub(crate) formats: &'a BTreeMap<String, Format>,
}

/// How a tensor of the layout is stored.
pub(crate) fn format_of<'a>(formats: &'a BTreeMap<String, Format>, tensor: &str) -> Result<&'a Format> {
    formats
        .get(tensor)
        .ok_or_else(|| MergeError::request(format!("{tensor} is not in the layout")))
}

impl Sink for FolderSink<'_> {
    fn store(&self, tensor: &str, start: usize, values: &[f32], bytes: &mut Vec<u8>) -> Result<StoreResult> {
        let format = format_of(self.formats, tensor)?;
        let error = format.bytes(tensor, start, values, bytes);
        self.writer
            .write_part(tensor, (start * format.dtype.size()) as u64, bytes)?;
        let mut checksum = Hasher::new();
        checksum.update(bytes);
        Ok(StoreResult { error, checksum })
    }
}

/// A GGUF file being made.
#[derive(Debug)]
pub(crate) struct GgufSink<'a>(pub(crate) &'a GgufTarget);

impl Sink for GgufSink<'_> {
    fn store(&self, tensor: &str, start: usize, values: &[f32], _: &mut Vec<u8>) -> Result<StoreResult> {
        Ok(StoreResult {
            error: self.0.store(tensor, start, values)?,
            checksum: Hasher::new(),
        })
    }
}

/// A model folder that is compared with the merged values.
#[derive(Debug)]
pub(crate) struct CompareSink<'a> {
    pub(crate) folder: &'a ModelFolder,
    pub(crate) formats: &'a BTreeMap<String, Format>,
}

impl Sink for CompareSink<'_> {
    fn store(&self, tensor: &str, start: usize, values: &[f32], bytes: &mut Vec<u8>) -> Result<StoreResult> {
        let format = format_of(self.formats, tensor)?;
        let error = format.bytes(tensor, start, values, bytes);
        let shape = self
            .folder
            .info(tensor)
            .map(|info| info.shape.clone())
            .unwrap_or_default();
        let width = if shape.len() < 2 {
            1
        } else {
            shape[1..].iter().product()
        };
        let mut found = Vec::new();
        let rows = start / width..(start + values.len()) / width;
        self.folder.read_f32_rows(tensor, rows, &mut found)?;
        let mut stored = Vec::with_capacity(bytes.len());
        format.dtype.extend_bytes(&found, &mut stored);
        let size = format.dtype.size();
        let differing = stored
            .chunks(size)
            .zip(bytes.chunks(size))
            .position(|(found, made)| found != made);
        if let Some(at) = differing {
            let mut made = Vec::new();
            format.dtype.extend_f32(&bytes[at * size..(at + 1) * size], &mut made);
            return Err(MergeError::Differs {
                tensor: tensor.to_owned(),
                entry: start + at,
                found: found[at],
                expected: made.first().copied().unwrap_or(f32::NAN),
            });
        }
        Ok(StoreResult {
            error,
            checksum: Hasher::new(),
        })
    }
}

/// One of the two neighbors in a dtype, each with the probability that keeps the mean.
fn drawn_neighbor(value: f32, dtype: DType, drawn: u32) -> f32 {
    let (bits, kept) = match dtype {
        DType::BF16 => (value.to_bits(), 16),
        // f16 has 13 bits of significand less, where its exponent reaches.
        DType::F16 if value.abs() >= 6.104e-5 => (value.to_bits(), 13),
        DType::F16 => {
            // Below, its steps are even: 2⁻²⁴.
            let steps = f64::from(value) * 16_777_216.0;
            let down = steps.floor();
            let up = f64::from(drawn) < (steps - down) * 4_294_967_296.0;
            return ((down + f64::from(u8::from(up))) / 16_777_216.0) as f32;
        }
        _ => return value,
    };
    if !value.is_finite() {
        return value;
    }
    let mask = (1_u32 << kept) - 1;
    let share = bits & mask;
    let down = bits & !mask;
    f32::from_bits(if drawn >> (32 - kept) < share {
        down + mask + 1
    } else {
        down
    })
}

/// Stores values in `dtype`, to nearest even, and returns Σ (stored − value)², which is not finite when a value is
/// not or does not fit.
fn round(values: &[f32], dtype: DType, out: &mut [u8]) -> f64 {
    Arch::new().dispatch(Round { values, dtype, out })
}

struct Round<'a> {
    values: &'a [f32],
    dtype: DType,
    out: &'a mut [u8],
}

impl WithSimd for Round<'_> {
    type Output = f64;

    /// The loops are plain; `Simd` decides which instructions they become.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let Self { values, dtype, out } = self;
        let mut sums = [0.0; CHAINS];
        for (values, out) in values.chunks(RUN).zip(out.chunks_mut(RUN * dtype.size())) {
            match dtype {
                DType::BF16 => each(values, out, &mut sums, |value| {
                    let stored = nearest_bf16(value);
                    (stored.to_le_bytes(), f32::from_bits(u32::from(stored) << 16))
                }),
                DType::F16 => each(values, out, &mut sums, |value| {
                    let stored = f16::from_f32(value);
                    (stored.to_le_bytes(), stored.to_f32())
                }),
                _ => each(values, out, &mut sums, |value| (value.to_le_bytes(), value)),
            }
        }
        sums.iter().sum()
    }
}

/// The bits of the nearest bf16, ties to even, without a branch; NaN stays NaN.
#[inline(always)]
fn nearest_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if value.is_nan() { quiet } else { rounded }) as u16
}

/// Stores a run of values and adds (stored − value)² to the sums.
#[inline(always)]
fn each<const SIZE: usize>(
    values: &[f32],
    out: &mut [u8],
    sums: &mut [f64; CHAINS],
    store: impl Fn(f32) -> ([u8; SIZE], f32),
) {
    let mut errors = [0.0_f32; RUN];
    for ((&value, out), error) in values.iter().zip(out.as_chunks_mut::<SIZE>().0).zip(&mut errors) {
        let (bytes, stored) = store(value);
        *out = bytes;
        *error = stored - value;
    }
    for errors in errors[..values.len()].chunks(CHAINS) {
        for (sum, &error) in sums.iter_mut().zip(errors) {
            *sum += f64::from(error) * f64::from(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn rounds_as_the_half_crate_does() {
        let halfway = 0x3f80_8000_u32;
        let patterns = (0..1 << 16).map(|at: u32| at.wrapping_mul(0x9e37_79b9));
        let near = (halfway - 2..halfway + 3).chain(halfway + 0xfffe..halfway + 0x1_0003);
        let special = [
            0,
            0x8000_0000,
            1,
            0x7f7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7fff_ffff,
            0x7f80_0001,
        ];
        for bits in patterns.chain(near).chain(special) {
            let value = f32::from_bits(bits);
            assert_eq!(nearest_bf16(value), bf16::from_f32(value).to_bits(), "{bits:#x}");
        }
    }

    /// Every drawn value is a neighbor, and their mean is the value to the bound of a Bernoulli mean's deviation.
    #[test]
    fn stochastic_rounding_is_unbiased() {
        for (dtype, value) in [
            (DType::BF16, 1.001_f32),
            (DType::BF16, -3.3e-3),
            (DType::F16, 0.100_03),
            (DType::F16, 3.3e-6),
        ] {
            let stream = Stream::new(3, "rounding", "", "x");
            let count = 1_u64 << 16;
            let drawn: Vec<f32> = (0..count)
                .map(|at| drawn_neighbor(value, dtype, stream.draw(at)))
                .collect();
            let least = drawn.iter().copied().fold(f32::INFINITY, f32::min);
            let most = drawn.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!(least <= value && value <= most && drawn.iter().all(|&x| x == least || x == most));
            let mut bytes = Vec::new();
            dtype.extend_bytes(&[least, most], &mut bytes);
            let mut back = Vec::new();
            dtype.extend_f32(&bytes, &mut back);
            assert_eq!(back, [least, most], "both are values of {dtype}");
            let mean = drawn.iter().map(|&x| f64::from(x)).sum::<f64>() / count as f64;
            // The deviation of a mean of n draws is at most step / (2√n); six of them never occur with a fixed seed.
            let bound = 6.0 * f64::from(most - least) / (2.0 * (count as f64).sqrt());
            assert!((mean - f64::from(value)).abs() <= bound, "{dtype} {value}: {mean}");
        }
    }
}
