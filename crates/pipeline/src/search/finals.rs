//! The best few on everything that the pipeline measures, and what the gate says of each.

use serde::Serialize;
use synapse_evaluate::gate::GateDecision;
use synapse_evaluate::outcome::{Outcome, Unit};
use synapse_evaluate::table::ComparisonTable;
use synapse_recipe::Stage;

use super::{Point, Trial, evaluator::MergeEvaluator, halving::Standing, stopped};
use crate::{
    PipelineError,
    comparison::{MERGE, compare},
    domain::Logs,
    record::{StageRun, fingerprint},
    stages::gate,
    trained_pipeline::TrainedPipeline,
};

/// One of the best few.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finalist {
    /// On the held-out rows.
    #[serde(flatten)]
    pub trial: Trial,
    /// What the pipeline's gate says.
    pub gate: GateDecision,
    /// The other suites of the pipeline.
    pub scores: Vec<Score>,
}

/// A suite's number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The domain.
    pub domain: String,
    /// The suite.
    pub suite: String,
    /// Share of right answers.
    pub value: Option<f64>,
}

/// Measures the best few, best first; `reference` is what base and specialists came to.
pub(super) fn measure(
    trained: &TrainedPipeline<'_>,
    evaluator: &mut MergeEvaluator<'_>,
    standing: &Standing,
    reference: &[Outcome],
) -> Result<Vec<Finalist>, PipelineError> {
    let mut finalists = Vec::new();
    for trial in standing.last.iter().take(standing.finalists) {
        if trained.run.stops() {
            return Err(stopped(trained.plan));
        }
        let mut outcomes = reference.to_vec();
        outcomes.extend(answers(trained, evaluator, &trial.point)?);
        let table = compare(&outcomes)?;
        finalists.push(Finalist {
            trial: trial.clone(),
            gate: gate::decide(trained.plan, &table)?,
            scores: scores(&table),
        });
    }
    Ok(finalists)
}

/// What one merge answers to the pipeline's suites, recorded as a stage of its own folder.
fn answers(
    trained: &TrainedPipeline<'_>,
    evaluator: &mut MergeEvaluator<'_>,
    point: &Point,
) -> Result<Vec<Outcome>, PipelineError> {
    let plan = trained.plan;
    let parts = (
        (trained.suites(), &plan.gate.on),
        (trained.held_out(), trained.questions()),
        (trained.hashes(), &trained.base_hash),
        (&plan.merge, point),
        &plan.export.dtype,
    );
    let folder = plan
        .run_dir
        .join("search/finalists")
        .join(point.to_string().replace(' ', "-"));
    let stage = StageRun {
        run: trained.run,
        name: &plan.name,
        folder: &folder,
        stage: Stage::Gate,
        fingerprint: fingerprint(Stage::Gate, &parts)?,
    };
    stage.execute(
        |_: &Vec<Outcome>| true,
        || {
            let model = evaluator.load(point)?;
            let logs = Logs::open(&stage)?;
            let mut outcomes = Vec::new();
            for domain in trained.domains()? {
                outcomes.extend(domain.measure(trained.run, &mut model.under_test(MERGE, None), &logs)?);
            }
            logs.done(outcomes)
        },
        |outcomes| format!("{} measurements of {point}", outcomes.len()),
    )
}

/// The merge's task scores.
fn scores(table: &ComparisonTable) -> Vec<Score> {
    let columns = table.columns.iter().filter(|column| column.unit == Unit::Fraction);
    columns
        .map(|column| Score {
            domain: column.domain.clone(),
            suite: column.suite.clone(),
            value: column
                .cells
                .iter()
                .find(|cell| cell.model == MERGE)
                .and_then(|cell| cell.value),
        })
        .collect()
}
