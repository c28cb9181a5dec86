//! Methods that choose entry by entry without a vote on trimmed signs: sce, nearswap, arcee_fusion.
//! Formulas: mergekit 0.1.5; statistics over a tensor are exact (arcee_fusion samples nothing) and in f64.

use crate::Result;
use crate::select::{EachInput, RankError, Series, TopKMask, count_high, largest};
use crate::tiles::{TensorTiles, Tile};

/// How one tensor's values are merged.
#[derive(Debug)]
pub(crate) enum Fusion {
    /// Near values swap; t.
    Near(f32),
    /// Entries of at least this importance are the model's.
    Important(f32),
    /// Selected by variance, weighted by energy.
    Elected { selected: TopKMask, weights: Vec<f32> },
}

impl Fusion {
    /// SCE: the positions of largest variance over the inputs, and each input's share of the energy there.
    pub(crate) fn sce(tensor: &mut TensorTiles<'_>, share: f64) -> Result<Self, RankError> {
        let inputs = tensor.inputs();
        // This also checks that all values are finite.
        count_high(tensor, &EachInput(inputs))?;
        let selected = if share >= 1.0 {
            TopKMask::ALL
        } else if share <= 0.0 {
            TopKMask::NONE
        } else {
            let varied = tensor.collect(false, |tile| {
                let mut scratch = Vec::new();
                let values = Variance.values(&tile, 0, &mut scratch);
                Ok(values.iter().filter(|value| **value != 0.0).count())
            })?;
            let count = (varied.iter().sum::<usize>() as f64 * share) as usize;
            largest(tensor, &Variance, &[(0, count)])?[0]
        };
        let tiles = tensor.collect(false, |tile| {
            let mut scratch = Vec::new();
            let variance = Variance.values(&tile, 0, &mut scratch);
            let energy = |values: &&[f32]| -> f64 {
                let kept = values.iter().zip(variance).enumerate();
                kept.filter(|(at, (_, variance))| selected.keeps(tile.start() + at, **variance))
                    .map(|(_, (&value, _))| f64::from(value) * f64::from(value))
                    .sum()
            };
            Ok(tile.inputs.iter().map(energy).collect::<Vec<f64>>())
        })?;
        let entries = tensor.entries().max(1) as f64;
        let means: Vec<f64> = (0..inputs)
            .map(|input| tiles.iter().map(|tile| tile[input]).sum::<f64>() / entries)
            .collect();
        let total: f64 = means.iter().sum();
        let weight = |mean: &f64| {
            if total < 1e-6 {
                1.0 / inputs as f64
            } else {
                mean / total
            }
        };
        Ok(Self::Elected {
            selected,
            weights: means.iter().map(|mean| weight(mean) as f32).collect(),
        })
    }

    /// Arcee fusion: the importance from which entries are taken from the model, median + 1.5 · (third − first quartile).
    pub(crate) fn arcee(tensor: &mut TensorTiles<'_>) -> Result<Self, RankError> {
        let entries = tensor.entries();
        let from_the_top = |quarters: usize| {
            let from_the_bottom = ((quarters as f64 / 4.0) * (entries.max(1) - 1) as f64) as usize;
            (0, entries - from_the_bottom)
        };
        let kept = largest(
            tensor,
            &Importance,
            &[from_the_top(1), from_the_top(2), from_the_top(3)],
        )?;
        let [first, median, third] = [0, 1, 2].map(|at| kept[at].threshold());
        Ok(Self::Important(median + 1.5 * (third - first)))
    }

    /// Writes the merged values of a tile.
    pub(crate) fn apply(&self, tile: &Tile<'_>, merged: &mut [f32]) {
        match self {
            Self::Near(t) => {
                for ((slot, &a), &b) in merged.iter_mut().zip(tile.base).zip(tile.inputs[0]) {
                    // By the reciprocal, as torch divides a number by a tensor.
                    let weight = (t * (1.0 / (a - b).abs().max(1e-6))).clamp(0.0, 1.0);
                    *slot = weight * b + (1.0 - weight) * a;
                }
            }
            Self::Important(threshold) => {
                let mut scratch = Vec::new();
                let importance = Importance.values(tile, 0, &mut scratch);
                let values = tile.base.iter().zip(tile.inputs[0]).zip(importance);
                for (slot, ((&base, &model), &importance)) in merged.iter_mut().zip(values) {
                    *slot = if importance >= *threshold {
                        base + (model - base)
                    } else {
                        base
                    };
                }
            }
            Self::Elected { selected, weights } => {
                let mut scratch = Vec::new();
                let variance = Variance.values(tile, 0, &mut scratch);
                for (at, (slot, &base)) in merged.iter_mut().zip(tile.base).enumerate() {
                    *slot = base;
                    if !selected.keeps(tile.start() + at, variance[at]) {
                        continue;
                    }
                    let changes = || tile.inputs.iter().map(|values| values[at]);
                    let positive = changes().sum::<f32>() >= 0.0;
                    let agreeing = changes()
                        .zip(weights)
                        .filter(|(change, _)| if positive { *change > 0.0 } else { *change < 0.0 });
                    let (sum, weight) = agreeing.fold((0.0_f32, 0.0_f32), |(sum, total), (change, weight)| {
                        (sum + change * weight, total + weight)
                    });
                    *slot = base + sum / weight.max(1e-6);
                }
            }
        }
    }
}

/// Population variance over the inputs, per entry.
struct Variance;

impl Series for Variance {
    fn count(&self) -> usize {
        1
    }

    fn values<'s>(&self, tile: &'s Tile<'_>, _: usize, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        let count = tile.inputs.len() as f64;
        scratch.clear();
        scratch.extend((0..tile.entries()).map(|at| {
            let values = || tile.inputs.iter().map(|values| f64::from(values[at]));
            let mean = values().sum::<f64>() / count;
            (values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count) as f32
        }));
        scratch
    }
}

/// |θ₁ − θ| times the divergence between both rows' softmax.
struct Importance;

impl Series for Importance {
    fn count(&self) -> usize {
        1
    }

    fn values<'s>(&self, tile: &'s Tile<'_>, _: usize, scratch: &'s mut Vec<f32>) -> &'s [f32] {
        scratch.clear();
        let width = tile.columns.max(1);
        for (base, model) in tile.base.chunks(width).zip(tile.inputs[0].chunks(width)) {
            let (p, q) = (softmax(model), softmax(base));
            let divergence: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
            scratch.extend(model.iter().zip(base).map(|(model, base)| {
                let difference = f64::from((model - base).abs());
                (difference * divergence) as f32
            }));
        }
        scratch
    }

    fn with_base(&self) -> bool {
        true
    }
}

/// softmax + 10⁻⁸, as the method's formula has it.
fn softmax(row: &[f32]) -> Vec<f64> {
    let most = row.iter().fold(f32::NEG_INFINITY, |most, &value| most.max(value));
    let powers: Vec<f64> = row.iter().map(|&value| f64::from(value - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum + 1e-8).collect()
}
