//! Sparsification: a mask over every input's change, and the factor that kept entries are multiplied by.

use crate::method::Sparsity;
use crate::options::Rescale;
use crate::random::Stream;
use crate::select::{EachInput, RankError, TopKMask, largest, magnitude};
use crate::tiles::{TensorTiles, Tile};
use crate::{Result, Trim};

/// Smallest sum that rescaling divides by (mergekit's).
const LEAST_NORM: f64 = 1e-7;

/// The share of entries that is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Density {
    /// An exact decimal; at least one entry of a tensor is kept.
    Exact(Trim),
    /// A binary fraction, multiplied and truncated as mergekit and PEFT do it.
    Float {
        share: f64,
        /// Fewest entries kept of a tensor that has any.
        least: usize,
    },
    /// The same and one entry more, as in the paper's code.
    OneMore(f64),
    /// From the (1 − share)-quantile on, as in TITAN's code.
    Quantile(f64),
}

impl Density {
    /// How many of `entries` entries are kept.
    pub(crate) fn kept(self, entries: usize) -> usize {
        match self {
            Self::Exact(trim) => trim.kept(entries),
            Self::Float { share, .. } if share <= 0.0 => 0,
            Self::Float { share, .. } if share >= 1.0 => entries,
            // A count of entries is far below 2⁵³, so the product is exact enough to be cut off.
            Self::Float { share, least } => ((share * entries as f64) as usize).max(least).min(entries),
            Self::OneMore(share) => ((share * entries as f64) as usize + 1).min(entries),
            Self::Quantile(share) => {
                let below = (1.0 - share) * entries.saturating_sub(1) as f64;
                // Decimal shares are meant: 0.2 of 10 entries is 2, whatever 0.2 is in binary.
                let below = (below * 1e9).round() / 1e9;
                entries - (below.ceil() as usize).min(entries)
            }
        }
    }

    /// The share itself.
    pub(crate) fn share(self) -> f64 {
        match self {
            Self::Exact(trim) => trim.density().parse().unwrap_or(1.0),
            Self::Float { share, .. } | Self::OneMore(share) | Self::Quantile(share) => share,
        }
    }
}

/// How one input is sparsified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sparsification {
    pub(crate) density: Density,
    /// Share of the largest entries that a band drops.
    pub(crate) gamma: f64,
    /// Half the width of the probabilities of a ranked draw.
    pub(crate) epsilon: f64,
    pub(crate) rescale: Rescale,
    pub(crate) stream: Stream,
    /// Keep every entry that ties with the last one kept.
    pub(crate) with_ties: bool,
    /// A threshold found over all tensors, instead of one of this tensor's own.
    pub(crate) threshold: Option<TopKMask>,
}

/// Which of an input's entries are kept.
#[derive(Clone, Copy, Debug)]
enum MaskRule {
    /// Those of at least some magnitude.
    Above(TopKMask),
    /// The first but not the second.
    Between(TopKMask, TopKMask),
    /// Each with the same probability, as a share of 2³².
    Random { below: u64, stream: Stream },
    /// Each with a probability by its rank within the row, from the smallest to the largest.
    Ranked { least: f64, width: f64, stream: Stream },
}

/// One input's mask, to be applied tile by tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InputMask {
    selection: MaskRule,
    factor: f32,
    /// Each kept entry is divided by its own probability.
    inverse: bool,
}

/// The mask of one tile.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TileMask<'s> {
    /// By magnitude, all times the same factor.
    Above(TopKMask, f32),
    /// A factor for every entry of the tile; 0 drops it.
    Times(&'s [f32]),
}

/// Finds every input's mask.
pub(crate) fn sparsify(
    tensor: &mut TensorTiles<'_>,
    sparsity: Option<Sparsity>,
    sparsifications: &[Sparsification],
) -> Result<Vec<InputMask>, RankError> {
    let entries = tensor.entries();
    let mut masks = match sparsity {
        None => vec![InputMask::ALL; sparsifications.len()],
        Some(Sparsity::Largest) => by_magnitude(tensor, sparsifications)?,
        Some(Sparsity::Band) => {
            let mut wanted = Vec::new();
            for (input, sparsification) in sparsifications.iter().enumerate() {
                // A density of one keeps the largest as well.
                let (kept, top) = match sparsification.density.share() {
                    1.0.. => (entries, 0),
                    share => {
                        let kept = (share.max(0.0) * entries as f64) as usize;
                        let top = (sparsification.gamma.max(0.0) * entries as f64) as usize;
                        (kept, top.min(entries - kept))
                    }
                };
                wanted.extend([(input, top + kept), (input, top)]);
            }
            let kept = largest(tensor, &EachInput(sparsifications.len()), &wanted)?;
            let between = |pair: &[TopKMask]| InputMask::of(MaskRule::Between(pair[0], pair[1]));
            kept.chunks_exact(2).map(between).collect()
        }
        Some(Sparsity::Random) => sparsifications
            .iter()
            .map(|sparsification| match sparsification.density.share() {
                1.0.. => InputMask::ALL,
                share => InputMask {
                    inverse: sparsification.rescale == Rescale::Inverse,
                    ..InputMask::of(MaskRule::Random {
                        below: probability(share),
                        stream: sparsification.stream,
                    })
                },
            })
            .collect(),
        Some(Sparsity::Ranked) => sparsifications
            .iter()
            .map(|sparsification| match sparsification.density.share() {
                1.0.. => InputMask::ALL,
                ..=0.0 => InputMask::of(MaskRule::Above(TopKMask::NONE)),
                share => InputMask {
                    inverse: sparsification.rescale == Rescale::Inverse,
                    ..InputMask::of(MaskRule::Ranked {
                        least: share - sparsification.epsilon,
                        width: 2.0 * sparsification.epsilon,
                        stream: sparsification.stream,
                    })
                },
            })
            .collect(),
    };
    if sparsifications
        .iter()
        .any(|sparsification| sparsification.rescale == Rescale::Norm)
    {
        rescale(tensor, sparsifications, &mut masks)?;
    }
    Ok(masks)
}

fn by_magnitude(tensor: &mut TensorTiles<'_>, sparsifications: &[Sparsification]) -> Result<Vec<InputMask>, RankError> {
    let entries = tensor.entries();
    let wanted: Vec<(usize, usize)> = sparsifications
        .iter()
        .enumerate()
        .filter(|(_, sparsification)| sparsification.threshold.is_none())
        .map(|(input, sparsification)| (input, sparsification.density.kept(entries)))
        .collect();
    let mut found = largest(tensor, &EachInput(sparsifications.len()), &wanted)?.into_iter();
    Ok(sparsifications
        .iter()
        .map(|sparsification| {
            let kept = sparsification
                .threshold
                .or_else(|| found.next())
                .unwrap_or(TopKMask::ALL);
            let kept = if sparsification.with_ties {
                kept.with_ties()
            } else {
                kept
            };
            InputMask::of(MaskRule::Above(kept))
        })
        .collect())
}

/// Sets every factor to ‖δ‖₁ / ‖kept δ‖₁ of the tensor.
fn rescale(tensor: &mut TensorTiles<'_>, sparsifications: &[Sparsification], masks: &mut [InputMask]) -> Result<()> {
    let tiles = tensor.collect(false, |tile| {
        let mut scratch = Vec::new();
        Ok(masks
            .iter()
            .enumerate()
            .map(|(input, masks)| masks.norms(&tile, input, &mut scratch))
            .collect::<Vec<_>>())
    })?;
    let mut sums = vec![(0.0, 0.0); masks.len()];
    for tile in tiles {
        for (sum, (before, after)) in sums.iter_mut().zip(tile) {
            *sum = (sum.0 + before, sum.1 + after);
        }
    }
    for ((masks, sparsification), (before, after)) in masks.iter_mut().zip(sparsifications).zip(sums) {
        if sparsification.rescale == Rescale::Norm && before >= LEAST_NORM && after >= LEAST_NORM {
            masks.factor = (before / after) as f32;
        }
    }
    Ok(())
}

/// A probability as a share of 2³².
fn probability(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 4_294_967_296.0).round() as u64
}

impl InputMask {
    /// Keeps every entry as it is.
    pub(crate) const ALL: Self = Self {
        selection: MaskRule::Above(TopKMask::ALL),
        factor: 1.0,
        inverse: false,
    };

    fn of(selection: MaskRule) -> Self {
        Self { selection, ..Self::ALL }
    }

    /// The mask of one input in a tile. `factors` is a buffer for it.
    pub(crate) fn in_tile<'s>(&self, tile: &Tile<'_>, input: usize, factors: &'s mut Vec<f32>) -> TileMask<'s> {
        let values = tile.inputs[input];
        let start = tile.start();
        if let MaskRule::Above(kept) = self.selection {
            return TileMask::Above(kept, self.factor);
        }
        factors.resize(values.len(), 0.0);
        match self.selection {
            MaskRule::Above(_) => {}
            MaskRule::Between(outer, inner) => {
                for (at, (factor, &value)) in factors.iter_mut().zip(values).enumerate() {
                    let index = start + at;
                    let kept = outer.keeps(index, value) && !inner.keeps(index, value);
                    *factor = if kept { self.factor } else { 0.0 };
                }
            }
            MaskRule::Random { below, stream } => {
                let factor = if self.inverse {
                    (4_294_967_296.0 / below.max(1) as f64) as f32
                } else {
                    self.factor
                };
                draw(&stream, start, factors, |_, drawn| {
                    if u64::from(drawn) < below { factor } else { 0.0 }
                });
            }
            MaskRule::Ranked { least, width, stream } => {
                let probabilities = ranked(values, tile.columns, least, width);
                draw(&stream, start, factors, |at, drawn| {
                    let share = probabilities[at];
                    match u64::from(drawn) < probability(share) {
                        true if self.inverse => (1.0 / share) as f32,
                        true => self.factor,
                        false => 0.0,
                    }
                });
            }
        }
        TileMask::Times(factors)
    }

    /// Σ|δ| of all and of the kept entries of one input in a tile, without the factor.
    fn norms(&self, tile: &Tile<'_>, input: usize, scratch: &mut Vec<f32>) -> (f64, f64) {
        let values = tile.inputs[input];
        let before = values.iter().map(|value| f64::from(value.abs())).sum();
        let start = tile.start();
        let after = match self.in_tile(tile, input, scratch) {
            TileMask::Above(kept, _) => values
                .iter()
                .enumerate()
                .filter(|&(at, &value)| kept.keeps(start + at, value))
                .map(|(_, value)| f64::from(value.abs()))
                .sum(),
            TileMask::Times(factors) => values
                .iter()
                .zip(factors)
                .filter(|&(_, &factor)| factor != 0.0)
                .map(|(value, _)| f64::from(value.abs()))
                .sum(),
        };
        (before, after)
    }
}

/// Draws a random number for every entry, by its index within the tensor.
fn draw(stream: &Stream, start: usize, factors: &mut [f32], factor: impl Fn(usize, u32) -> f32) {
    let mut block = (u64::MAX, [0; 4]);
    for (at, slot) in factors.iter_mut().enumerate() {
        let index = (start + at) as u64;
        if block.0 != index / 4 {
            block = (index / 4, stream.block(index / 4));
        }
        *slot = factor(at, block.1[(index % 4) as usize]);
    }
}

/// Every entry's probability: `least` for a row's smallest magnitude to `least + width` for its largest, evenly over
/// the ranks; equal magnitudes rank by index.
fn ranked(values: &[f32], columns: usize, least: f64, width: f64) -> Vec<f64> {
    let mut probabilities = vec![least; values.len()];
    let mut order: Vec<u32> = Vec::new();
    for (row, probabilities) in values
        .chunks(columns.max(1))
        .zip(probabilities.chunks_mut(columns.max(1)))
    {
        order.clear();
        order.extend(0..row.len() as u32);
        order.sort_by_key(|&at| magnitude(row[at as usize]));
        let steps = (row.len().max(2) - 1) as f64;
        for (rank, &at) in order.iter().enumerate() {
            probabilities[at as usize] = least + width * (rank as f64 / steps);
        }
    }
    probabilities
}
