//! PEFT's way of merging adapters: A and B each by themselves, and only then the product. Not what a merge of the
//! updates is (the product has cross terms), and only here for those who want PEFT's result to the formula.
//!
//! Formulas: `add_weighted_adapter` of PEFT 0.21 with `linear`, `ties`, `dare_linear`, `dare_ties`. A's weights are
//! √|w·s| with the sign of w·s, B's √|w·s|; signs are elected from unweighted values, and the sum over those that agree
//! is divided by their number.

use crate::choices::ZeroSign;
use crate::combine::{Change, Divisor, Onto, Piece, Rule, Vote};
use crate::delta::Product;
use crate::inputs::Inputs;
use crate::peft::{Added, Factors, Known};
use crate::plan::{PlannedInput, TensorPlan};
use crate::random::Stream;
use crate::rules::Rules;
use crate::select::Unranked;
use crate::sparsify::{Survivors, Thinning, sparsify};
use crate::tiles::{Field, Room, Rows, View};
use crate::{MergeError, MergeRequest, Result};

/// The adapters of one tensor as one change.
///
/// # Errors
/// Ranks differ, which PEFT does not merge either, or an adapter changes the tensor in another way than by LoRA.
pub(crate) fn merge<'a>(
    request: &MergeRequest,
    inputs: &Inputs,
    plan: &TensorPlan,
    touching: &[&PlannedInput],
) -> Result<Vec<Box<dyn Rows + 'a>>> {
    let rules = Rules { request, plan };
    let (mut lefts, mut rights, mut scaled, mut ranks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for input in touching {
        let name = inputs.name(input.input);
        let factors = inputs
            .adapter(input.input)
            .map(|adapter| adapter.factors(&input.tensor))
            .transpose()?;
        let Some(Factors { a, b, rank, scale }) = factors.flatten() else {
            return Err(MergeError::request(format!(
                "{name}: changes {} in another way than by plain LoRA, which --compat peft does not merge",
                plan.name
            )));
        };
        lefts.push(b);
        rights.push(a);
        ranks.push((name, rank));
        scaled.push(rules.weight(input) * f64::from(scale));
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
                rules,
                touching,
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
    Ok(vec![Box::new(Added(Product::new(&a, b, rank, columns, 1.0)))])
}

/// One of the two factors and whose they are.
struct Factor<'f> {
    rules: Rules<'f>,
    touching: &'f [&'f PlannedInput],
    inputs: &'f Inputs,
    letter: &'static str,
}

/// Merges one side's matrices.
fn factor(of: &Factor<'_>, values: Vec<Vec<f32>>, weights: &[f32], columns: usize) -> Result<Vec<f32>> {
    let request = of.rules.request;
    let shape = [values[0].len() / columns.max(1), columns];
    let nothing = Known {
        values: vec![0.0; values[0].len()],
        columns,
        view: View::Whole,
    };
    let rows: Vec<Box<dyn Rows>> = values
        .into_iter()
        .map(|values| -> Box<dyn Rows> {
            Box::new(Known {
                values,
                columns,
                view: View::Change,
            })
        })
        .collect();
    let tensor = format!("{} {}", of.rules.plan.name, of.letter);
    let thinnings: Vec<Thinning> = of
        .touching
        .iter()
        .map(|input| Thinning {
            stream: Stream::new(request.seed, "sparsify", of.inputs.name(input.input), &tensor),
            ..of.rules.thinning(input, None)
        })
        .collect();
    let mut room = Room::shared(usize::MAX);
    let mut field = Field::new(&shape, View::Change, &nothing, rows, &mut room);
    let survivors = sparsify(&mut field, request.method.sparsity(), &thinnings).map_err(|unranked| match unranked {
        Unranked::Merge(error) => error,
        Unranked::NotFinite(at) => MergeError::NotFinite {
            input: of.inputs.name(of.touching[at].input).to_owned(),
            tensor: tensor.clone(),
        },
    })?;
    let rule = Rule {
        election: request.method.elects().then_some(Vote {
            sign: request.sign,
            drawn: if request.zero_sign == ZeroSign::Drop { 0.0 } else { 1.0 },
            weighted: false,
            single: true,
        }),
        divisor: if request.method.elects() {
            Divisor::Count
        } else {
            Divisor::One
        },
        lambda: 1.0,
        onto: Onto::Base,
    };
    combined(&mut field, &rule, &survivors, weights)
}

/// A field's inputs, thinned out, weighted and combined over its base.
pub(crate) fn combined(
    field: &mut Field<'_>,
    rule: &Rule,
    survivors: &[Survivors],
    weights: &[f32],
) -> Result<Vec<f32>> {
    let pieces = field.collect(true, |tile| {
        let mut merged = vec![0.0; tile.entries()];
        let mut factors: Vec<Vec<f32>> = vec![Vec::new(); tile.inputs.len()];
        let changes: Vec<Change<'_>> = factors
            .iter_mut()
            .enumerate()
            .map(|(input, factors)| Change {
                delta: tile.inputs[input],
                weight: weights[input],
                surviving: survivors[input].in_tile(&tile, input, factors),
            })
            .collect();
        Piece {
            changes: &changes,
            rule,
            start: tile.start(),
            base: tile.base,
            merged: &mut merged,
            given: false,
        }
        .combine();
        Ok(merged)
    })?;
    Ok(pieces.concat())
}
