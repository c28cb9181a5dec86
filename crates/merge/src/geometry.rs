//! Methods that interpolate along spheres: slerp, nuslerp, multislerp, karcher, model_stock.
//!
//! Their results all lie in the span of the inputs, so each is a sum Σ cᵢvᵢ whose coefficients follow from the inner
//! products of the vᵢ alone. One sweep takes the products (in f64, in tile order), a few lines of algebra on a handful
//! of numbers find the coefficients, and one sweep adds up, in f32 and input order. Formulas: mergekit 0.1.5.

use crate::Result;
use crate::tiles::{TensorTiles, Tile};

/// |cos| above this is a straight line to slerp.
const STRAIGHT: f64 = 0.9995;

/// The methods of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SphereMethod {
    Slerp,
    NuSlerp,
    MultiSlerp,
    Karcher,
    ModelStock,
}

/// The options of a spherical method for one tensor.
#[derive(Clone, Debug)]
pub(crate) struct SphereOptions {
    pub(crate) method: SphereMethod,
    /// wᵢ of every input, the base not counted.
    pub(crate) weights: Vec<f64>,
    /// Whether the base takes part: it is the origin (nuslerp, multislerp), an end (slerp) or one of the inputs.
    pub(crate) uses_base: bool,
    pub(crate) t: f64,
    pub(crate) flatten: bool,
    pub(crate) row_wise: bool,
    pub(crate) normalize_weights: bool,
    pub(crate) eps: f64,
    pub(crate) max_iter: usize,
    pub(crate) tol: f64,
    pub(crate) filter_wise: bool,
}

/// Which entries form one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Granularity {
    Tensor,
    Row,
    Column,
}

/// Coefficients of the base and every input, per vector.
#[derive(Debug)]
pub(crate) struct Blend {
    granularity: Granularity,
    /// Base first.
    coefficients: Vec<Vec<f32>>,
}

/// Inner products of base (first) and inputs, row-major and symmetric.
type Gram = Vec<f64>;

impl SphereOptions {
    fn granularity(&self, rows: usize) -> Granularity {
        match self.method {
            SphereMethod::NuSlerp if self.flatten => Granularity::Tensor,
            // In mergekit, row-wise takes vectors along the first dimension.
            SphereMethod::NuSlerp if self.row_wise && rows > 1 => Granularity::Column,
            SphereMethod::NuSlerp => Granularity::Row,
            SphereMethod::ModelStock if self.filter_wise => Granularity::Row,
            SphereMethod::Slerp | SphereMethod::MultiSlerp | SphereMethod::Karcher | SphereMethod::ModelStock => {
                Granularity::Tensor
            }
        }
    }

    /// The coefficients of a tensor's base and inputs.
    ///
    /// # Errors
    /// The inputs have no mean (they cancel out), or could not be read; the former as text for the tensor.
    pub(crate) fn blend(&self, tensor: &mut TensorTiles<'_>) -> Result<Result<Blend, String>> {
        let columns = tensor.columns();
        let rows = tensor.entries() / columns.max(1);
        let granularity = self.granularity(rows);
        let vectors = tensor.inputs() + 1;
        let grams = grams(tensor, granularity, vectors)?;
        let coefficients = grams
            .iter()
            .map(|gram| Ok(self.coefficients(gram, vectors)?.iter().map(|&c| c as f32).collect()))
            .collect::<Result<_, String>>();
        Ok(coefficients.map(|coefficients| Blend {
            granularity,
            coefficients,
        }))
    }

    /// The coefficients of one vector of the base and of every input.
    fn coefficients(&self, gram: &Gram, vectors: usize) -> Result<Vec<f64>, String> {
        let product = |left: usize, right: usize| gram[left * vectors + right];
        match self.method {
            SphereMethod::Slerp => {
                let norm = |at: usize| Some(product(at, at).sqrt()).filter(|norm| *norm > 1e-8).unwrap_or(1.0);
                let cosine = (product(0, 1) / (norm(0) * norm(1))).clamp(-1.0, 1.0);
                Ok(arc(cosine, self.t, cosine.abs() > STRAIGHT).to_vec())
            }
            SphereMethod::NuSlerp => {
                let total: f64 = self.weights.iter().sum();
                let t = if total.abs() < 1e-6 {
                    0.5
                } else {
                    self.weights[1] / total
                };
                let norm = |at: usize| product(at, at).sqrt().max(1e-7);
                let cosine = (product(1, 2) / (norm(1) * norm(2))).clamp(-1.0, 1.0);
                let [left, right] = arc(cosine, t, 1.0 - cosine * cosine <= 1e-16);
                Ok(vec![f64::from(u8::from(self.uses_base)), left, right])
            }
            SphereMethod::MultiSlerp => self.multislerp(gram, vectors),
            SphereMethod::Karcher => Ok(self.karcher(gram, vectors)),
            SphereMethod::ModelStock => Ok(model_stock(gram, vectors)),
        }
    }

    /// At the normalized Euclidean mean the tangents cancel, so the point is the mean's direction, at the inputs' mean
    /// distance.
    fn multislerp(&self, gram: &Gram, vectors: usize) -> Result<Vec<f64>, String> {
        let origin = f64::from(u8::from(self.uses_base));
        let inputs = vectors - 1;
        if inputs == 1 {
            return Ok(vec![origin, 1.0]);
        }
        let total: f64 = self.weights.iter().sum();
        let share = |at: usize| {
            if self.normalize_weights {
                self.weights[at] / total
            } else {
                self.weights[at]
            }
        };
        let norm = |at: usize| gram[(at + 1) * (vectors + 1)].sqrt();
        let unit: Vec<f64> = (0..inputs).map(|at| share(at) / (norm(at) + self.eps)).collect();
        let square: f64 = (0..inputs)
            .flat_map(|i| (0..inputs).map(move |j| (i, j)))
            .map(|(i, j)| unit[i] * unit[j] * gram[(i + 1) * vectors + j + 1])
            .sum();
        let length = square.max(0.0).sqrt();
        if length < self.eps {
            if inputs == 2 {
                return Ok(vec![origin, share(0), share(1)]);
            }
            return Err(
                "the inputs' weighted directions cancel out, so they have no mean; change the weights".to_owned(),
            );
        }
        let distance: f64 = (0..inputs).map(|at| share(at) * norm(at)).sum();
        let scale = (self.eps.cos() / length) * distance;
        Ok(std::iter::once(origin)
            .chain(unit.iter().map(|unit| unit * scale))
            .collect())
    }

    /// Gradient descent on the sphere to the point of least squared angles, in coefficients of the unit vectors.
    fn karcher(&self, gram: &Gram, vectors: usize) -> Vec<f64> {
        let first = usize::from(!self.uses_base);
        let members: Vec<usize> = (first..vectors).collect();
        let norms: Vec<f64> = (0..vectors).map(|at| gram[at * (vectors + 1)].sqrt()).collect();
        let valid: Vec<usize> = members.iter().copied().filter(|&at| norms[at] > self.tol).collect();
        let mut result = vec![0.0; vectors];
        if let [only] = members[..] {
            result[only] = 1.0;
            return result;
        }
        if valid.is_empty() {
            return result;
        }
        let cosine = |left: usize, right: usize| gram[left * vectors + right] / (norms[left] * norms[right]);
        let dot = |left: &[f64], right: &[f64]| -> f64 {
            let pairs = valid.iter().flat_map(|&i| valid.iter().map(move |&j| (i, j)));
            pairs.map(|(i, j)| left[i] * right[j] * cosine(i, j)).sum()
        };
        let length = |vector: &[f64]| dot(vector, vector).max(0.0).sqrt();
        let single = |at: usize| -> Vec<f64> { (0..vectors).map(|i| f64::from(u8::from(i == at))).collect() };
        let share = 1.0 / valid.len() as f64;
        let mut mean = vec![0.0; vectors];
        valid.iter().for_each(|&at| mean[at] = share);
        let norm = length(&mean);
        if norm < self.tol {
            mean = single(valid[0]);
        } else {
            mean.iter_mut().for_each(|c| *c /= norm);
        }
        for _ in 0..self.max_iter {
            let mut tangent = vec![0.0; vectors];
            for &at in &valid {
                let unit = single(at);
                let cosine = dot(&mean, &unit).clamp(-1.0, 1.0);
                let angle = cosine.acos();
                if angle < self.tol {
                    continue;
                }
                let pull = share * (angle / angle.sin());
                for (slot, (unit, mean)) in tangent.iter_mut().zip(unit.iter().zip(&mean)) {
                    *slot += pull * (unit - cosine * mean);
                }
            }
            let step = length(&tangent);
            if step < self.tol {
                break;
            }
            for (mean, tangent) in mean.iter_mut().zip(&tangent) {
                *mean = step.cos() * *mean + step.sin() * (tangent / step);
            }
            let norm = length(&mean);
            if norm > self.tol {
                mean.iter_mut().for_each(|c| *c /= norm);
            }
        }
        let scale: f64 = members.iter().map(|&at| norms[at]).sum::<f64>() / members.len() as f64;
        for &at in &valid {
            result[at] = mean[at] * scale / norms[at];
        }
        result
    }
}

/// Coefficients of both ends of an arc at t, or of the straight line.
fn arc(cosine: f64, t: f64, straight: bool) -> [f64; 2] {
    if straight {
        // In f32, as the line between f32 weights is drawn.
        let t = t as f32;
        return [f64::from(1.0 - t), f64::from(t)];
    }
    let angle = cosine.acos();
    [((1.0 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()]
}

/// t·mean(θᵢ) + (1−t)·θ with t = N·c/(1+(N−1)·c), c the mean cosine between changes. `gram` is of base and changes.
fn model_stock(gram: &Gram, vectors: usize) -> Vec<f64> {
    let inputs = vectors - 1;
    let count = inputs as f64;
    let pairs: Vec<(usize, usize)> = (1..vectors)
        .flat_map(|i| (i + 1..vectors).map(move |j| (i, j)))
        .collect();
    let cosine = |&(i, j): &(usize, usize)| {
        let norms = gram[i * (vectors + 1)].sqrt() * gram[j * (vectors + 1)].sqrt();
        (gram[i * vectors + j] / norms.max(1e-6)).clamp(-1.0, 1.0)
    };
    // One input alone has no angle to another; the base stays.
    let mean = pairs.iter().map(cosine).sum::<f64>() / (pairs.len().max(1)) as f64;
    let denominator = 1.0 + (count - 1.0) * mean;
    let t = if denominator.abs() < 1e-6 {
        0.0
    } else {
        count * mean / denominator
    };
    std::iter::once(1.0)
        .chain(std::iter::repeat_n(t / count, inputs))
        .collect()
}

/// The inner products of base and inputs, per vector of the grain.
fn grams(tensor: &mut TensorTiles<'_>, granularity: Granularity, vectors: usize) -> Result<Vec<Gram>> {
    let size = vectors * vectors;
    let columns = tensor.columns();
    let tiles = tensor.collect(true, |tile| {
        let slices = sides(&tile);
        let of = |count: usize| vec![vec![0.0; size]; count];
        let mut grams = match granularity {
            Granularity::Tensor => of(1),
            Granularity::Row => of(tile.rows.len()),
            Granularity::Column => of(columns),
        };
        for left in 0..vectors {
            for right in left..vectors {
                let at = (left * vectors + right, right * vectors + left);
                let mut put = |vector: usize, sum: f64| {
                    grams[vector][at.0] += sum;
                    if at.0 != at.1 {
                        grams[vector][at.1] += sum;
                    }
                };
                match granularity {
                    Granularity::Tensor => put(0, dot(slices[left], slices[right])),
                    Granularity::Row => {
                        let rows = slices[left]
                            .chunks(columns.max(1))
                            .zip(slices[right].chunks(columns.max(1)));
                        rows.enumerate().for_each(|(row, (x, y))| put(row, dot(x, y)));
                    }
                    Granularity::Column => {
                        let entries = slices[left].iter().zip(slices[right]).enumerate();
                        entries.for_each(|(entry, (&x, &y))| put(entry % columns, f64::from(x) * f64::from(y)));
                    }
                }
            }
        }
        Ok(grams)
    })?;
    if granularity == Granularity::Row {
        return Ok(tiles.into_iter().flatten().collect());
    }
    let mut tiles = tiles.into_iter();
    let mut sums = tiles.next().unwrap_or_else(|| vec![vec![0.0; size]]);
    for tile in tiles {
        for (sum, more) in sums.iter_mut().flatten().zip(tile.iter().flatten()) {
            *sum += more;
        }
    }
    Ok(sums)
}

/// Base first, then the inputs.
fn sides<'t>(tile: &'t Tile<'_>) -> Vec<&'t [f32]> {
    std::iter::once(tile.base).chain(tile.inputs.iter().copied()).collect()
}

/// Σ x·y in f64: eight chains, joined in order.
fn dot(x: &[f32], y: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; 8];
    let (x_blocks, x_rest) = x.as_chunks::<8>();
    let (y_blocks, y_rest) = y.as_chunks::<8>();
    for (x, y) in x_blocks.iter().zip(y_blocks) {
        for lane in 0..8 {
            lanes[lane] += f64::from(x[lane]) * f64::from(y[lane]);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += f64::from(x) * f64::from(y);
    }
    lanes.iter().sum()
}

impl Blend {
    /// Writes Σ cᵢvᵢ of a tile, base first: each product rounded, then added. A coefficient of zero adds nothing.
    pub(crate) fn apply(&self, tile: &Tile<'_>, merged: &mut [f32]) {
        let coefficient = |vector: usize, side: usize| self.coefficients.get(vector).map_or(0.0, |own| own[side]);
        merged.fill(0.0);
        for (side, values) in sides(tile).into_iter().enumerate() {
            match self.granularity {
                Granularity::Tensor => add(coefficient(0, side), values, merged),
                Granularity::Row => {
                    let width = tile.columns.max(1);
                    for (row, (values, merged)) in values.chunks(width).zip(merged.chunks_mut(width)).enumerate() {
                        add(coefficient(tile.rows.start + row, side), values, merged);
                    }
                }
                Granularity::Column => {
                    for (entry, (slot, &value)) in merged.iter_mut().zip(values).enumerate() {
                        *slot += coefficient(entry % tile.columns, side) * value;
                    }
                }
            }
        }
    }
}

fn add(coefficient: f32, values: &[f32], merged: &mut [f32]) {
    if coefficient != 0.0 {
        for (slot, &value) in merged.iter_mut().zip(values) {
            *slot += coefficient * value;
        }
    }
}
