//! What an election needs to know of the whole model before its first tensor: thresholds over all of an input's
//! tensors, and the sign that wins most entries.

use std::collections::BTreeMap;

use crate::choices::Selection;
use crate::engine::Engine;
use crate::rules::Rules;
use crate::select::{Counts, Inputs as Each, Kept, Query, Series, count_high, count_low, magnitude};
use crate::sparsify::{Surviving, sparsify};
use crate::tiles::{Room, Tile};
use crate::{Result, Sign};

/// The whole model's share in the election.
#[derive(Debug, Default)]
pub(crate) struct Global {
    /// By tensor and input; empty where each tensor has thresholds of its own.
    pub(crate) thresholds: BTreeMap<(usize, usize), Kept>,
    /// The sign of most entries.
    pub(crate) majority: f32,
}

impl Global {
    /// A tensor's threshold for an input.
    pub(crate) fn threshold(&self, tensor: usize, input: usize) -> Option<Kept> {
        self.thresholds.get(&(tensor, input)).copied()
    }
}

/// One of several inputs of a tensor.
struct Only(usize);

impl Series for Only {
    fn count(&self) -> usize {
        1
    }

    fn values<'s>(&self, tile: &'s Tile<'_>, _: usize, _: &'s mut Vec<f32>) -> &'s [f32] {
        tile.inputs[self.0]
    }
}

impl Engine<'_> {
    /// Ranks the entries of all of an input's tensors together; ties go to the earlier tensor, then the lower index.
    pub(crate) fn find_thresholds(&self) -> Result<BTreeMap<(usize, usize), Kept>> {
        let mut room = Room::shared(self.request.tile_budget);
        let count = self.request.inputs().count();
        let mut high = Counts::<u64>::high(count);
        let mut entries = vec![0; count];
        for plan in self.plans {
            let touching = self.touching(plan);
            if touching.is_empty() {
                continue;
            }
            let counts = self.with_field(&mut room, plan, &touching, |field| {
                let counts = count_high(field, &Each(touching.len()));
                counts.map_err(|unranked| self.unranked(plan, &touching, unranked))
            })?;
            for (at, input) in touching.iter().enumerate() {
                high.add_series(input.input, &counts, at);
                entries[input.input] += plan.shape.iter().product::<usize>();
            }
        }
        let mut queries: BTreeMap<usize, Query> = BTreeMap::new();
        for (input, &entries) in entries.iter().enumerate() {
            let Some(plan) = self.plans.first() else { continue };
            let rules = Rules {
                request: self.request,
                plan,
            };
            let planned = plan.inputs.iter().find(|planned| planned.input == input);
            let kept = planned.map_or(entries, |planned| rules.density(planned).kept(entries));
            if kept < entries {
                queries.insert(input, Query::new(&high, input, kept.max(1) as u64));
            }
        }
        let mut low: BTreeMap<usize, Counts<u64>> = queries.keys().map(|&input| (input, Counts::low(1))).collect();
        for plan in self.plans {
            let touching = self.touching(plan);
            let asked: Vec<Query> = touching
                .iter()
                .enumerate()
                .filter_map(|(at, input)| Some(queries.get(&input.input)?.of(at)))
                .collect();
            if asked.is_empty() {
                continue;
            }
            let counts = self.with_field(&mut room, plan, &touching, |field| {
                count_low(field, &Each(touching.len()), &asked)
            })?;
            for (at, query) in asked.iter().enumerate() {
                if let Some(low) = low.get_mut(&touching[query.series].input) {
                    low.add_series(0, &counts, at);
                }
            }
        }
        let mut thresholds = BTreeMap::new();
        for (&input, query) in &queries {
            let (threshold, wanted, tied) = query.answer(&low[&input], 0);
            self.share_out(input, threshold, (wanted, tied), &mut thresholds)?;
        }
        for (tensor, plan) in self.plans.iter().enumerate() {
            for input in self.touching(plan) {
                thresholds.entry((tensor, input.input)).or_insert(Kept::ALL);
            }
        }
        Ok(thresholds)
    }

    /// Gives every tensor its part of the ties at a threshold.
    fn share_out(
        &self,
        input: usize,
        threshold: u32,
        (mut wanted, tied): (u64, u64),
        thresholds: &mut BTreeMap<(usize, usize), Kept>,
    ) -> Result<()> {
        let mut room = Room::shared(self.request.tile_budget);
        let all = wanted == tied || self.request.selection == Selection::Threshold;
        for (tensor, plan) in self.plans.iter().enumerate() {
            let touching = self.touching(plan);
            let Some(at) = touching.iter().position(|planned| planned.input == input) else {
                continue;
            };
            let kept = if all {
                Kept::ties_below(threshold, usize::MAX)
            } else if wanted == 0 {
                Kept::ties_below(threshold, 0)
            } else {
                let here = |value: &f32| magnitude(*value) == threshold;
                self.with_field(&mut room, plan, &touching, |field| {
                    let counts = field.collect(false, |tile| {
                        Ok(tile.inputs[at].iter().filter(|value| here(value)).count() as u64)
                    })?;
                    let total: u64 = counts.iter().sum();
                    if total <= wanted {
                        wanted -= total;
                        return Ok(Kept::ties_below(threshold, usize::MAX));
                    }
                    let end = crate::select::end_of_ties(field, &Only(at), 0, threshold, wanted as usize)?;
                    wanted = 0;
                    Ok(Kept::ties_below(threshold, end))
                })?
            };
            thresholds.insert((tensor, input), kept);
        }
        Ok(())
    }

    /// The sign that wins most entries of the model, +1 where both win as many.
    pub(crate) fn find_majority(&self) -> Result<f32> {
        let mut room = Room::shared(self.request.tile_budget);
        let mut balance = 0_i64;
        for (index, plan) in self.plans.iter().enumerate() {
            let touching = self.touching(plan);
            if touching.is_empty() {
                continue;
            }
            let rules = Rules {
                request: self.request,
                plan,
            };
            let thinnings: Vec<_> = touching
                .iter()
                .map(|input| rules.thinning(input, self.global.threshold(index, input.input)))
                .collect();
            let weights: Vec<f32> = touching.iter().map(|input| rules.weight(input) as f32).collect();
            let (request, sparsity) = (self.request, self.request.method.sparsity());
            let tiles = self.with_field(&mut room, plan, &touching, |field| {
                let survivors = sparsify(field, sparsity, &thinnings);
                let survivors = survivors.map_err(|unranked| self.unranked(plan, &touching, unranked))?;
                field.collect(false, |tile| {
                    let mut totals = vec![0.0_f64; tile.entries()];
                    for (input, survivors) in survivors.iter().enumerate() {
                        let mut factors = Vec::new();
                        let surviving = survivors.in_tile(&tile, input, &mut factors);
                        let weight = if request.election.weighted { weights[input] } else { 1.0 };
                        for (at, (total, &value)) in totals.iter_mut().zip(tile.inputs[input]).enumerate() {
                            let d = weight
                                * match surviving {
                                    Surviving::Above(kept, factor) if kept.keeps(tile.start() + at, value) => {
                                        value * factor
                                    }
                                    Surviving::Above(..) => 0.0,
                                    Surviving::Times(factors) => value * factors[at],
                                };
                            *total = match request.sign {
                                Sign::Total if request.election.single => f64::from(*total as f32 + d),
                                Sign::Total => *total + f64::from(d),
                                Sign::Frequency if d == 0.0 => *total,
                                Sign::Frequency => *total + f64::from(d.signum()),
                            };
                        }
                    }
                    let winners = totals
                        .iter()
                        .map(|total| i64::from(*total > 0.0) - i64::from(*total < 0.0));
                    Ok(winners.sum::<i64>())
                })
            })?;
            balance += tiles.iter().sum::<i64>();
        }
        Ok(if balance < 0 { -1.0 } else { 1.0 })
    }
}
