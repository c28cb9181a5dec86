//! What a search leaves in its folder: everything it found as JSON, the chosen merge as a section of YAML, the plot.

use std::fmt::Write as _;
use std::path::Path;

use synapse_checkpoint::write_atomic;
use synapse_evaluate::gate::GateDecision;
use synapse_evaluate::report::{ParetoPoint, ParetoStatus, pareto_plot};
use synapse_recipe::PipelinePlan;

use super::{Finalist, Point, SearchOutcome, Trial, halving::Standing, trial::front};
use crate::{PipelineError, record::write_json};

/// Chooses among the finalists, and writes it all.
pub(super) fn write(
    folder: &Path,
    plan: &PipelinePlan,
    standing: Standing,
    finalists: Vec<Finalist>,
) -> Result<SearchOutcome, PipelineError> {
    let passes = |finalist: &Finalist| !matches!(finalist.gate, GateDecision::Refuse { .. });
    let Some(chosen) = finalists.iter().position(passes) else {
        return Err(PipelineError::Refused {
            name: plan.name.clone(),
            reason: finalists.first().map_or_else(String::new, |best| {
                format!("none of the {} best merges: {}", finalists.len(), best.gate.message())
            }),
        });
    };
    let on_front = front(&standing.last);
    let point = finalists[chosen].trial.point.clone();
    let best_at_own_trim = standing
        .last
        .iter()
        .find(|trial| trial.point.trim == standing.own.point.trim)
        .unwrap_or(&standing.own)
        .clone();
    let mut front_trials: Vec<Trial> = on_front.iter().map(|&index| standing.last[index].clone()).collect();
    front_trials.sort_by(|left, right| left.mean_gain_kept.total_cmp(&right.mean_gain_kept));
    let label = |trial: &Trial| match (trial.point == point, trial.point == standing.own.point) {
        (true, true) => Some("chosen: the pipeline's own".to_owned()),
        (true, false) => Some(format!("chosen: {}", trial.point)),
        (false, true) => Some(format!("the pipeline's own: {}", trial.point)),
        (false, false) => None,
    };
    let points: Vec<ParetoPoint> = standing
        .last
        .iter()
        .enumerate()
        .map(|(index, trial)| ParetoPoint {
            mean: trial.mean_gain_kept,
            worst: trial.worst_gain_kept,
            standing: if on_front.contains(&index) {
                ParetoStatus::Front
            } else {
                ParetoStatus::Dominated
            },
            label: label(trial),
        })
        .collect();
    let outcome = SearchOutcome {
        pipeline: plan.name.clone(),
        tried: standing.tried,
        rows: standing.rows,
        best_at_own_trim,
        front: front_trials,
        chosen,
        command: command(plan, &point),
        yaml: folder.join("merge.yaml"),
        plot: folder.join("front.svg"),
        own: standing.own,
        finalists,
    };
    write_atomic(&outcome.plot, pareto_plot(&points)?.as_bytes())?;
    write_atomic(&outcome.yaml, section(plan, &outcome, &point).as_bytes())?;
    write_json(&folder.join("search.json"), &outcome)?;
    Ok(outcome)
}

/// The pipeline's run with these numbers.
fn command(plan: &PipelinePlan, point: &Point) -> String {
    let mut text = format!("synapse-train run {}", plan.file.display());
    // Writing to a String cannot fail, here and below.
    if point.trim != plan.merge.trim {
        let _ = write!(text, " --set merge.trim={}", point.trim);
    }
    if point.lambda != plan.merge.lambda {
        let _ = write!(text, " --set merge.lambda={}", point.lambda);
    }
    for (name, weight) in &point.weights {
        if plan.merge.weights.get(name) != Some(weight) {
            let _ = write!(text, " --set merge.weights.{name}={weight}");
        }
    }
    text
}

/// The chosen merge as the section that a pipeline has.
fn section(plan: &PipelinePlan, outcome: &SearchOutcome, point: &Point) -> String {
    let merge = &plan.merge;
    let kept = |trial: &Trial| 100.0 * trial.mean_gain_kept;
    let mut text = format!(
        "# Chosen among {} merges on {} held-out rows: {:.1} % of the specialists' gains kept; the pipeline's own merge\n\
         # keeps {:.1} %. It takes the place of the pipeline's `merge:`, or runs as it is:\n#   {}\nmerge:\n  method: {}\n",
        outcome.tried,
        outcome.rows,
        kept(&outcome.finalists[outcome.chosen].trial),
        kept(&outcome.own),
        outcome.command,
        merge.method
    );
    let _ = write!(
        text,
        "  trim: {}\n  sign: {}\n  lambda: {}\n  weights:\n",
        point.trim, merge.sign, point.lambda
    );
    for (name, weight) in &point.weights {
        let _ = writeln!(text, "    {name}: {weight}");
    }
    if !merge.parameters.is_empty() {
        let _ = writeln!(text, "  parameters:");
        for (name, value) in &merge.parameters {
            let _ = writeln!(text, "    {name}: {value}");
        }
    }
    if merge.seed != 0 {
        let _ = writeln!(text, "  seed: {}", merge.seed);
    }
    text
}
