//! A pipeline: its recipes up to their trained adapters, then evaluate, merge, gate and export.

use synapse_recipe::{PipelinePlan, Plan, Stage};

use crate::{
    PipelineError, Run,
    comparison::{WIDTH, compare},
    page::with_page,
    record::write_json,
    run_dir::RunDir,
    stages::{
        evaluate_specialists::evaluate_specialists,
        export::{Publication, publish},
        gate,
        merge::merge,
    },
    trained_pipeline::TrainedPipeline,
};

/// How far a pipeline came.
#[derive(Debug)]
pub struct PipelineOutcome {
    /// The comparison as drawn for the terminal, once measured.
    pub table: Option<String>,
    /// Whether a model was published.
    pub published: bool,
}

/// Runs a pipeline.
///
/// # Errors
/// Whatever a stage refuses, or the gate.
pub fn run_pipeline(run: &Run<'_>, plan: &PipelinePlan) -> Result<PipelineOutcome, PipelineError> {
    with_page(run, Plan::Pipeline(plan.clone()), |run| all_stages(run, plan))
}

fn all_stages(run: &Run<'_>, plan: &PipelinePlan) -> Result<PipelineOutcome, PipelineError> {
    let mut outcome = PipelineOutcome {
        table: None,
        published: false,
    };
    let trained = TrainedPipeline::train(run, plan)?;
    if run.ends_before(Stage::Evaluate) {
        return Ok(outcome);
    }
    let mut outcomes = evaluate_specialists(&trained)?;
    outcome.table = Some(crate::table(&outcomes));
    if run.ends_before(Stage::Merge) {
        return Ok(outcome);
    }
    let (merged, report) = merge(&trained)?;
    if run.ends_before(Stage::Gate) {
        return Ok(outcome);
    }
    outcomes.extend(gate::evaluate_merge(&trained, &merged)?);
    let table = compare(&outcomes)?;
    outcome.table = Some(table.render(WIDTH));
    write_json(&RunDir::new(&plan.run_dir).comparison(), &table)?;
    let decision = gate::judge(&trained, &table)?;
    if run.ends_before(Stage::Export) {
        return Ok(outcome);
    }
    publish(&Publication {
        trained: &trained,
        merged: &merged,
        report: &report,
        table: &table,
        decision: &decision,
    })?;
    outcome.published = true;
    Ok(outcome)
}
