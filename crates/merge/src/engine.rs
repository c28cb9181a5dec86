//! One tensor, from its inputs' rows to its stored values: statistics first, then one sweep that merges, describes and
//! stores. Which tensors there are, and what happens to the output folder, is `merge`'s subject.

use crate::aligned::Aligned;
use crate::choices::{BaseView, Scope, ZeroSign};
use crate::combine::{Change, Piece, PieceReport, Rule};
use crate::fusion::Fusion;
use crate::geometry::Blend;
use crate::global::Global;
use crate::inputs::{Inputs, Stored, replaces};
use crate::nf4::Nf4Rows;
use crate::plan::{PlannedInput, TensorPlan};
use crate::report::{Tally, TensorReport, describe};
use crate::rules::Rules;
use crate::select::Unranked;
use crate::sink::{Receipt, Sink};
use crate::sparsify::{Surviving, Survivors, sparsify};
use crate::tiles::{Field, Room, Rows, Tile, View};
use crate::variations::Selections;
use crate::{MergeError, MergeRequest, Method, Result};

/// What a tensor came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) checksum: u32,
    /// Its sums and its report; `None` for a copy.
    pub(crate) merged: Option<(Tally, TensorReport)>,
}

/// How the merged values of a tile are made.
enum Recipe {
    /// Sparsify, elect, combine.
    Combine(Rule, Vec<Survivors>),
    Blend(Blend),
    Fuse(Fusion),
    Scale(f32),
}

/// What is stored of a tensor so far, and buffers that serve tile after tile.
#[derive(Default)]
struct Storing {
    pieces: Vec<(PieceReport, Receipt)>,
    merged: Aligned,
    bytes: Vec<u8>,
}

impl Storing {
    fn join(mut self, mut later: Self) -> Self {
        self.pieces.append(&mut later.pieces);
        self
    }
}

/// What stays the same from tensor to tensor. Any number of threads may use it, each in a room of its own.
pub(crate) struct Engine<'a> {
    pub(crate) request: &'a MergeRequest,
    pub(crate) inputs: &'a Inputs,
    pub(crate) plans: &'a [TensorPlan],
    replaces: bool,
    pub(crate) global: Global,
    /// What survived in an earlier merge of the same inputs by the same trim.
    pub(crate) selections: Option<&'a Selections>,
}

impl<'a> Engine<'a> {
    /// An engine for a request; where thresholds or signs are the whole model's, it looks at all of it first.
    pub(crate) fn new(request: &'a MergeRequest, inputs: &'a Inputs, plans: &'a [TensorPlan]) -> Result<Self> {
        let mut engine = Self {
            request,
            inputs,
            plans,
            replaces: replaces(request, inputs),
            global: Global::default(),
            selections: None,
        };
        if request.method.elects() {
            if request.scope == Scope::Global {
                engine.global.thresholds = engine.find_thresholds()?;
            }
            if request.zero_sign == ZeroSign::Majority {
                engine.global.majority = engine.find_majority()?;
            }
        }
        Ok(engine)
    }

    /// The inputs that have a say in a tensor.
    pub(crate) fn touching(&self, plan: &'a TensorPlan) -> Vec<&'a PlannedInput> {
        plan.inputs.iter().filter(|input| self.inputs.touches(input)).collect()
    }

    /// Bytes that the changes of a tensor's inputs take.
    pub(crate) fn changes(&self, index: usize) -> usize {
        let plan = &self.plans[index];
        4 * plan.shape.iter().product::<usize>() * self.touching(plan).len()
    }

    /// Tells the system that a tensor will be read soon.
    pub(crate) fn announce(&self, index: usize) {
        self.inputs.base_rows(&self.plans[index]).announce();
    }

    /// Runs `work` on a tensor's field: its base and what touches it.
    pub(crate) fn with_field<T>(
        &self,
        room: &mut Room,
        plan: &TensorPlan,
        touching: &[&PlannedInput],
        work: impl FnOnce(&mut Field<'_>) -> Result<T>,
    ) -> Result<T> {
        let stored = self.inputs.base_rows(plan);
        let nf4 = self.nf4(plan, touching, &stored)?;
        let base: &dyn Rows = match &nf4 {
            Some(nf4) => nf4,
            None => &stored,
        };
        let rows = if self.joined(touching) {
            crate::factors::merge(self.request, self.inputs, plan, touching)?
        } else {
            let rows = touching.iter().map(|input| self.inputs.rows(plan, input));
            rows.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
        };
        let view = if self.replaces { View::Whole } else { View::Change };
        work(&mut Field::new(&plan.shape, view, base, rows, room))
    }

    /// The base's adapted matrices through NF4, where the request wants to see them so.
    fn nf4(&self, plan: &TensorPlan, touching: &[&PlannedInput], stored: &Stored<'_>) -> Result<Option<Nf4Rows>> {
        let seen = self.request.base_view == BaseView::Nf4 && !touching.is_empty() && plan.shape.len() == 2;
        if seen && plan.name.starts_with("model.layers.") {
            return Nf4Rows::of(stored, &plan.shape).map(Some);
        }
        Ok(None)
    }

    /// Merges one tensor into a sink.
    pub(crate) fn merge(&self, index: usize, sink: &dyn Sink, room: &mut Room) -> Result<Outcome> {
        let plan = &self.plans[index];
        let touching = self.touching(plan);
        if touching.is_empty() {
            return self.copy(plan, sink, room);
        }
        let stored = self.with_field(room, plan, &touching, |field| {
            let recipe = self.recipe(index, plan, &touching, field)?;
            field.sweep(
                true,
                Storing::default,
                |storing, tile| self.store(plan, &touching, &recipe, &tile, storing, sink),
                Storing::join,
            )
        })?;
        let mut report = PieceReport::new(if self.joined(&touching) { 1 } else { touching.len() });
        let mut checksum = crc32fast::Hasher::new();
        for (piece, receipt) in &stored.pieces {
            report.add(piece);
            report.tally.rounding += receipt.error;
            checksum.combine(&receipt.checksum);
        }
        if !report.tally.rounding.is_finite() {
            return Err(self.overflow(plan));
        }
        let names = if self.joined(&touching) {
            vec!["merged factors".to_owned()]
        } else {
            let names = touching.iter().map(|input| self.inputs.name(input.input).to_owned());
            names.collect()
        };
        let described = describe(plan, names, &report);
        Ok(Outcome {
            checksum: checksum.finalize(),
            merged: Some((report.tally, described)),
        })
    }

    /// Whether the inputs were made one before the merge.
    fn joined(&self, touching: &[&PlannedInput]) -> bool {
        self.request.factors && touching.len() > 1
    }

    fn overflow(&self, plan: &TensorPlan) -> MergeError {
        MergeError::Overflow {
            tensor: plan.name.clone(),
            dtype: self
                .request
                .dtype
                .unwrap_or_else(|| self.inputs.base_rows(plan).dtype()),
        }
    }

    /// A tensor that no input changes.
    fn copy(&self, plan: &TensorPlan, sink: &dyn Sink, room: &mut Room) -> Result<Outcome> {
        let (receipts, _) = self.with_field(room, plan, &[], |field| {
            field.sweep(
                true,
                || (Vec::new(), Vec::new()),
                |(receipts, bytes), tile| {
                    receipts.push(sink.store(&plan.name, tile.start(), tile.base, bytes)?);
                    Ok(())
                },
                |(mut receipts, bytes), (mut later, _)| {
                    receipts.append(&mut later);
                    (receipts, bytes)
                },
            )
        })?;
        let mut checksum = crc32fast::Hasher::new();
        for receipt in &receipts {
            if !receipt.error.is_finite() {
                return Err(self.overflow(plan));
            }
            checksum.combine(&receipt.checksum);
        }
        Ok(Outcome {
            checksum: checksum.finalize(),
            merged: None,
        })
    }

    /// Takes the statistics that the method needs of a tensor.
    fn recipe(
        &self,
        index: usize,
        plan: &TensorPlan,
        touching: &[&PlannedInput],
        field: &mut Field<'_>,
    ) -> Result<Recipe> {
        let rules = Rules {
            request: self.request,
            plan,
        };
        let named = |unranked: Unranked| self.unranked(plan, touching, unranked);
        let joined = self.joined(touching);
        Ok(match self.request.method {
            Method::Passthrough => Recipe::Scale(rules.scale(touching[0]).unwrap_or(1.0) as f32),
            Method::NearSwap => Recipe::Fuse(Fusion::Near(rules.t() as f32)),
            Method::ArceeFusion => Recipe::Fuse(Fusion::arcee(field).map_err(named)?),
            Method::Sce => Recipe::Fuse(Fusion::sce(field, rules.select_topk()).map_err(named)?),
            Method::NuSlerp if touching.len() == 1 => {
                Recipe::Combine(rules.rule(0.0, self.replaces, true), vec![Survivors::ALL])
            }
            Method::Slerp | Method::NuSlerp | Method::MultiSlerp | Method::Karcher | Method::ModelStock => {
                let blend = rules.options(touching).blend(field)?;
                Recipe::Blend(blend.map_err(|problem| MergeError::NoMean {
                    tensor: plan.name.clone(),
                    problem,
                })?)
            }
            _ if joined => Recipe::Combine(rules.rule(0.0, false, true), vec![Survivors::ALL]),
            method => {
                let known = self.selections.and_then(|known| known.get(index));
                let find = || {
                    let thinnings: Vec<_> = touching
                        .iter()
                        .map(|input| rules.thinning(input, self.global.threshold(index, input.input)))
                        .collect();
                    let found = sparsify(field, method.sparsity(), &thinnings).map_err(named)?;
                    if let Some(selections) = self.selections {
                        selections.put(index, &found);
                    }
                    Ok::<_, MergeError>(found)
                };
                let survivors = known.map_or_else(find, Ok)?;
                Recipe::Combine(rules.rule(self.global.majority, self.replaces, false), survivors)
            }
        })
    }

    /// Names the input that cannot be ranked.
    pub(crate) fn unranked(&self, plan: &TensorPlan, touching: &[&PlannedInput], unranked: Unranked) -> MergeError {
        match unranked {
            Unranked::Merge(error) => error,
            Unranked::NotFinite(at) => MergeError::NotFinite {
                input: touching
                    .get(at)
                    .map_or_else(String::new, |input| self.inputs.name(input.input).to_owned()),
                tensor: plan.name.clone(),
            },
        }
    }

    /// Merges, describes and stores one tile.
    fn store(
        &self,
        plan: &TensorPlan,
        touching: &[&PlannedInput],
        recipe: &Recipe,
        tile: &Tile<'_>,
        storing: &mut Storing,
        sink: &dyn Sink,
    ) -> Result<()> {
        let rules = Rules {
            request: self.request,
            plan,
        };
        let Storing { pieces, merged, bytes } = storing;
        merged.resize(tile.entries());
        let known = !matches!(recipe, Recipe::Combine(..));
        match recipe {
            Recipe::Combine(..) => {}
            Recipe::Blend(blend) => blend.apply(tile, merged),
            Recipe::Fuse(fusion) => fusion.apply(tile, merged),
            Recipe::Scale(scale) => {
                for (slot, &value) in merged.iter_mut().zip(tile.inputs[0]) {
                    *slot = value * scale;
                }
            }
        }
        // Methods on whole weights are described by their changes to the base, as the others are.
        let changes: Option<Vec<Vec<f32>>> = (known && self.replaces).then(|| {
            let change = |values: &&[f32]| values.iter().zip(tile.base).map(|(value, base)| value - base).collect();
            tile.inputs.iter().map(change).collect()
        });
        let mut factors: Vec<Vec<f32>> = vec![Vec::new(); tile.inputs.len()];
        let inputs: Vec<Change<'_>> = factors
            .iter_mut()
            .enumerate()
            .map(|(input, factors)| Change {
                delta: changes.as_ref().map_or(tile.inputs[input], |changes| &changes[input]),
                weight: match recipe {
                    Recipe::Combine(..) if !self.joined(touching) => rules.weight(touching[input]) as f32,
                    _ => 1.0,
                },
                surviving: match recipe {
                    Recipe::Combine(_, survivors) => survivors[input].in_tile(tile, input, factors),
                    _ => Surviving::Above(crate::select::Kept::ALL, 1.0),
                },
            })
            .collect();
        let rule = match recipe {
            Recipe::Combine(rule, _) => *rule,
            _ => rules.rule(0.0, self.replaces, true),
        };
        let report = Piece {
            changes: &inputs,
            rule: &rule,
            start: tile.start(),
            base: tile.base,
            merged,
            given: known,
        }
        .combine();
        let receipt = sink.store(&plan.name, tile.start(), merged, bytes)?;
        pieces.push((report, receipt));
        Ok(())
    }
}
