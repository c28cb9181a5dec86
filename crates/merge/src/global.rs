//! Statistics of the whole model that an election needs before its first tensor: thresholds over all of an input's
//! tensors, and the sign that wins most entries.

use std::collections::BTreeMap;

use crate::options::{Scope, TieBreak, TopKSelection};
use crate::select::{Counts, EachInput, Query, Series, TopKMask, count_high, count_low, magnitude};
use crate::sparsify::{TileMask, sparsify};
use crate::tensor_source::TensorSource;
use crate::tiles::{Tile, Workspace};
use crate::{Result, Sign};

/// Thresholds by tensor and input.
type Thresholds = BTreeMap<(usize, usize), TopKMask>;

/// The statistics of one model.
#[derive(Debug, Default)]
pub(crate) struct GlobalStatistics {
    /// Empty where each tensor has thresholds of its own.
    thresholds: Thresholds,
    /// The sign that wins most entries.
    pub(crate) majority: f32,
}

impl GlobalStatistics {
    /// Takes the statistics that a request needs, which may mean several sweeps over the model, or none.
    pub(crate) fn of(source: &TensorSource<'_>) -> Result<Self> {
        let mut statistics = Self::default();
        if source.request.method.elects_signs() {
            if source.request.ties.scope == Scope::Global {
                statistics.thresholds = find_thresholds(source)?;
            }
            if source.request.ties.tie_break == TieBreak::Majority {
                statistics.majority = find_majority(source, &statistics)?;
            }
        }
        Ok(statistics)
    }

    /// A tensor's threshold for an input.
    pub(crate) fn threshold(&self, tensor: usize, input: usize) -> Option<TopKMask> {
        self.thresholds.get(&(tensor, input)).copied()
    }
}

/// One of several inputs of a tensor.
struct OneInput(usize);

impl Series for OneInput {
    fn count(&self) -> usize {
        1
    }

    fn values<'s>(&self, tile: &'s Tile<'_>, _: usize, _: &'s mut Vec<f32>) -> &'s [f32] {
        tile.inputs[self.0]
    }
}

/// Ranks the entries of all of an input's tensors together. Ties go to the earlier tensor, then to the lower index.
fn find_thresholds(source: &TensorSource<'_>) -> Result<Thresholds> {
    let mut workspace = Workspace::shared(source.request.tile_budget);
    let count = source.request.inputs().count();
    let mut high = Counts::<u64>::high(count);
    let mut entries = vec![0; count];
    for tensor in source.tensors.iter().filter(|tensor| !tensor.inputs.is_empty()) {
        let counts = source.with_tiles(&mut workspace, tensor, |tiles| {
            let counts = count_high(tiles, &EachInput(tensor.inputs.len()));
            counts.map_err(|error| source.rank_error(tensor, error))
        })?;
        for (at, input) in tensor.inputs.iter().enumerate() {
            high.add_series(input.input, &counts, at);
            entries[input.input] += tensor.entries();
        }
    }
    let mut queries: BTreeMap<usize, Query> = BTreeMap::new();
    for (input, &entries) in entries.iter().enumerate() {
        let Some(first) = source.tensors.first() else { continue };
        let planned = first.plan.inputs.iter().find(|planned| planned.input == input);
        let parameters = source.parameters(first);
        let kept = planned.map_or(entries, |planned| parameters.density(planned).kept(entries));
        if kept < entries {
            queries.insert(input, Query::new(&high, input, kept.max(1) as u64));
        }
    }
    let mut low: BTreeMap<usize, Counts<u64>> = queries.keys().map(|&input| (input, Counts::low(1))).collect();
    for tensor in &source.tensors {
        let asked: Vec<Query> = tensor
            .inputs
            .iter()
            .enumerate()
            .filter_map(|(at, input)| Some(queries.get(&input.input)?.of(at)))
            .collect();
        if asked.is_empty() {
            continue;
        }
        let counts = source.with_tiles(&mut workspace, tensor, |tiles| {
            count_low(tiles, &EachInput(tensor.inputs.len()), &asked)
        })?;
        for (at, query) in asked.iter().enumerate() {
            if let Some(low) = low.get_mut(&tensor.inputs[query.series].input) {
                low.add_series(0, &counts, at);
            }
        }
    }
    let mut thresholds = BTreeMap::new();
    for (&input, query) in &queries {
        let (threshold, wanted, tied) = query.answer(&low[&input], 0);
        divide_ties(source, input, threshold, (wanted, tied), &mut thresholds)?;
    }
    for (index, tensor) in source.tensors.iter().enumerate() {
        for input in &tensor.inputs {
            thresholds.entry((index, input.input)).or_insert(TopKMask::ALL);
        }
    }
    Ok(thresholds)
}

/// Says for every tensor how many of an input's ties at the threshold it keeps.
fn divide_ties(
    source: &TensorSource<'_>,
    input: usize,
    threshold: u32,
    (mut wanted, tied): (u64, u64),
    thresholds: &mut Thresholds,
) -> Result<()> {
    let mut workspace = Workspace::shared(source.request.tile_budget);
    let all = wanted == tied || source.request.ties.selection == TopKSelection::Threshold;
    for (index, tensor) in source.tensors.iter().enumerate() {
        let Some(at) = tensor.inputs.iter().position(|planned| planned.input == input) else {
            continue;
        };
        let mask = if all {
            TopKMask::ties_below(threshold, usize::MAX)
        } else if wanted == 0 {
            TopKMask::ties_below(threshold, 0)
        } else {
            let is_tied = |value: &&f32| magnitude(**value) == threshold;
            source.with_tiles(&mut workspace, tensor, |tiles| {
                let counts = tiles.collect(false, |tile| Ok(tile.inputs[at].iter().filter(is_tied).count() as u64))?;
                let total: u64 = counts.iter().sum();
                if total <= wanted {
                    wanted -= total;
                    return Ok(TopKMask::ties_below(threshold, usize::MAX));
                }
                let end = crate::select::end_of_ties(tiles, &OneInput(at), 0, threshold, wanted as usize)?;
                wanted = 0;
                Ok(TopKMask::ties_below(threshold, end))
            })?
        };
        thresholds.insert((index, input), mask);
    }
    Ok(())
}

/// The sign that wins most entries of the model; +1 where both win equally many.
fn find_majority(source: &TensorSource<'_>, statistics: &GlobalStatistics) -> Result<f32> {
    let request = source.request;
    let mut workspace = Workspace::shared(request.tile_budget);
    let mut balance = 0_i64;
    for (index, tensor) in source.tensors.iter().enumerate() {
        if tensor.inputs.is_empty() {
            continue;
        }
        let parameters = source.parameters(tensor);
        let sparsifications: Vec<_> = tensor
            .inputs
            .iter()
            .map(|input| parameters.sparsification(input, statistics.threshold(index, input.input)))
            .collect();
        let weights: Vec<f32> = tensor
            .inputs
            .iter()
            .map(|input| parameters.weight(input) as f32)
            .collect();
        let winners = source.with_tiles(&mut workspace, tensor, |tiles| {
            let masks = sparsify(tiles, request.method.sparsity(), &sparsifications);
            let masks = masks.map_err(|error| source.rank_error(tensor, error))?;
            tiles.collect(false, |tile| {
                let mut totals = vec![0.0_f64; tile.entries()];
                for (input, mask) in masks.iter().enumerate() {
                    let mut factors = Vec::new();
                    let mask = mask.in_tile(&tile, input, &mut factors);
                    let weight = if request.ties.weighted_vote {
                        weights[input]
                    } else {
                        1.0
                    };
                    for (at, (total, &value)) in totals.iter_mut().zip(tile.inputs[input]).enumerate() {
                        let d = weight
                            * match mask {
                                TileMask::Above(kept, factor) if kept.keeps(tile.start() + at, value) => value * factor,
                                TileMask::Above(..) => 0.0,
                                TileMask::Times(factors) => value * factors[at],
                            };
                        *total = match request.ties.sign {
                            Sign::Total if request.ties.vote_in_f32 => f64::from(*total as f32 + d),
                            Sign::Total => *total + f64::from(d),
                            Sign::Frequency if d == 0.0 => *total,
                            Sign::Frequency => *total + f64::from(d.signum()),
                        };
                    }
                }
                let signs = totals
                    .iter()
                    .map(|total| i64::from(*total > 0.0) - i64::from(*total < 0.0));
                Ok(signs.sum::<i64>())
            })
        })?;
        balance += winners.iter().sum::<i64>();
    }
    Ok(if balance < 0 { -1.0 } else { 1.0 })
}
