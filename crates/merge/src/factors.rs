//! PEFT's way of merging adapters: A and B are merged separately, and then multiplied. This differs from merging the
//! updates (the product has cross terms), and is here only to reproduce PEFT's result.
//!
//! Formulas: `add_weighted_adapter` of PEFT 0.21 with `linear`, `ties`, `dare_linear`, `dare_ties`. A's weights are
//! √|w·s| with the sign of w·s, B's √|w·s|; signs are elected from unweighted values, and the sum over those that agree
//! is divided by their number.

use crate::combine::{Change, Chunk, CombineRule, Divisor, Onto, Vote};
use crate::inputs::Inputs;
use crate::low_rank::LowRankProduct;
use crate::options::TieBreak;
use crate::parameters::TensorParameters;
use crate::peft::{DenseRows, LoraFactors, LowRankUpdate};
use crate::plan::{PlannedInput, TensorPlan};
use crate::random::Stream;
use crate::select::RankError;
use crate::sparsify::{InputMask, Sparsification, sparsify};
use crate::tiles::{Representation, RowSource, TensorTiles, Workspace};
use crate::{MergeError, MergeRequest, Result};

/// The adapters of one tensor as one change.
///
/// # Errors
/// Ranks differ, which PEFT does not merge either, or an adapter changes the tensor in another way than by LoRA.
pub(crate) fn merge<'a>(
    request: &MergeRequest,
    inputs: &Inputs,
    plan: &TensorPlan,
    contributing: &[&PlannedInput],
) -> Result<Vec<Box<dyn RowSource + 'a>>> {
    let parameters = TensorParameters { request, plan };
    let (mut lefts, mut rights, mut scaled, mut ranks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for input in contributing {
        let name = inputs.name(input.input);
        let factors = inputs
            .adapter(input.input)
            .map(|adapter| adapter.factors(&input.tensor))
            .transpose()?;
        let Some(LoraFactors { a, b, rank, scale }) = factors.flatten() else {
            return Err(MergeError::request(format!(
                "{name}: changes {} in another way than by plain LoRA, which --compat peft does not merge",
                plan.name
            )));
        };
        lefts.push(b);
        rights.push(a);
        ranks.push((name, rank));
        scaled.push(parameters.weight(input) * f64::from(scale));
    }
    if ranks.iter().any(|(_, rank)| *rank != ranks[0].1) {
        let ranks: Vec<String> = ranks.iter().map(|(name, rank)| format!("{name} {rank}")).collect();
        return Err(MergeError::request(format!(
            "{}: ranks differ ({}), and PEFT merges factors of one rank only; without --compat peft any ranks merge",
            plan.name,
            ranks.join(", ")
        )));
    }
    let rank = ranks[0].1;
    let columns = plan.shape.get(1).copied().unwrap_or(1);
    let roots: Vec<f32> = scaled.iter().map(|scaled| scaled.abs().sqrt() as f32).collect();
    let signed: Vec<f32> = roots
        .iter()
        .zip(&scaled)
        .map(|(root, scaled)| if *scaled < 0.0 { -root } else { *root })
        .collect();
    let side = |values, weights: &[f32], columns, letter| {
        factor(
            &Factor {
                parameters,
                contributing,
                inputs,
                letter,
            },
            values,
            weights,
            columns,
        )
    };
    let a = side(rights, &signed, columns, "A")?;
    let b = side(lefts, &roots, rank, "B")?;
    Ok(vec![Box::new(LowRankUpdate(LowRankProduct::new(
        &a, b, rank, columns, 1.0,
    )))])
}

/// One of the two factors of all adapters.
struct Factor<'f> {
    parameters: TensorParameters<'f>,
    contributing: &'f [&'f PlannedInput],
    inputs: &'f Inputs,
    letter: &'static str,
}

/// Merges one side's matrices.
fn factor(of: &Factor<'_>, values: Vec<Vec<f32>>, weights: &[f32], columns: usize) -> Result<Vec<f32>> {
    let request = of.parameters.request;
    let shape = [values[0].len() / columns.max(1), columns];
    let nothing = DenseRows {
        values: vec![0.0; values[0].len()],
        columns,
        representation: Representation::Whole,
    };
    let rows: Vec<Box<dyn RowSource>> = values
        .into_iter()
        .map(|values| -> Box<dyn RowSource> {
            Box::new(DenseRows {
                values,
                columns,
                representation: Representation::Change,
            })
        })
        .collect();
    let name = format!("{} {}", of.parameters.plan.name, of.letter);
    let sparsifications: Vec<Sparsification> = of
        .contributing
        .iter()
        .map(|input| Sparsification {
            stream: Stream::new(request.seed, "sparsify", of.inputs.name(input.input), &name),
            ..of.parameters.sparsification(input, None)
        })
        .collect();
    let mut workspace = Workspace::shared(usize::MAX);
    let mut tensor = TensorTiles::new(&shape, Representation::Change, &nothing, rows, &mut workspace);
    let masks =
        sparsify(&mut tensor, request.method.sparsity(), &sparsifications).map_err(|rank_error| match rank_error {
            RankError::Merge(error) => error,
            RankError::NotFinite(at) => MergeError::NotFinite {
                input: of.inputs.name(of.contributing[at].input).to_owned(),
                tensor: name.clone(),
            },
        })?;
    let rule = CombineRule {
        election: request.method.elects_signs().then_some(Vote {
            sign: request.ties.sign,
            tie_sign: if request.ties.tie_break == TieBreak::Drop {
                0.0
            } else {
                1.0
            },
            weighted: false,
            vote_in_f32: true,
        }),
        divisor: if request.method.elects_signs() {
            Divisor::Count
        } else {
            Divisor::One
        },
        lambda: 1.0,
        onto: Onto::Base,
    };
    combined(&mut tensor, &rule, &masks, weights)
}

/// A field's inputs, thinned out, weighted and combined over its base.
pub(crate) fn combined(
    tensor: &mut TensorTiles<'_>,
    rule: &CombineRule,
    masks: &[InputMask],
    weights: &[f32],
) -> Result<Vec<f32>> {
    let chunks = tensor.collect(true, |tile| {
        let mut merged = vec![0.0; tile.entries()];
        let mut factors: Vec<Vec<f32>> = vec![Vec::new(); tile.inputs.len()];
        let changes: Vec<Change<'_>> = factors
            .iter_mut()
            .enumerate()
            .map(|(input, factors)| Change {
                delta: tile.inputs[input],
                weight: weights[input],
                mask: masks[input].in_tile(&tile, input, factors),
            })
            .collect();
        Chunk {
            changes: &changes,
            start: tile.start(),
            base: tile.base,
        }
        .combine(rule, &mut merged);
        Ok(merged)
    })?;
    Ok(chunks.concat())
}
