//! The gate stage: the merge is measured on every domain and compared with the base.
//!
//! The stage's record holds those measurements; the decision itself is in `gate.json`.

use std::path::Path;

use synapse_evaluate::Outcome;
use synapse_evaluate::gate::{GateDecision, GateRule};
use synapse_evaluate::table::ComparisonTable;
use synapse_nn::LoadOptions;
use synapse_recipe::{PipelinePlan, Stage};

use crate::{
    LoadedModel, PipelineError,
    comparison::MERGE,
    domain::Logs,
    record::{fingerprint, under_template_arguments, write_json},
    run_dir::RunDir,
    trace::TracedSample,
    trained_pipeline::TrainedPipeline,
    translate,
};

/// The merge on every domain.
pub(crate) fn evaluate_merge(pipeline: &TrainedPipeline<'_>, merged: &Path) -> Result<Vec<Outcome>, PipelineError> {
    let parts = (
        pipeline.suites(),
        &pipeline.plan.gate,
        (pipeline.held_out(), pipeline.questions()),
        pipeline.hashes(),
        &pipeline.base_hash,
        &pipeline.plan.merge,
        &pipeline.plan.export.dtype,
    );
    let arguments = pipeline.template_arguments();
    let fingerprint = under_template_arguments(&arguments, fingerprint(Stage::Gate, &parts)?);
    let stage = pipeline.stage(Stage::Gate, fingerprint);
    stage.execute(
        |_: &Vec<Outcome>| true,
        || {
            let model = LoadedModel::open(merged, &[], &LoadOptions::BF16)?.with_template_arguments(&arguments)?;
            let logs = Logs::open(&stage)?;
            let mut outcomes = Vec::new();
            for (domain, (plan, _)) in pipeline.domains()?.iter().zip(&pipeline.specialists) {
                outcomes.extend(domain.measure(pipeline.run, &mut model.under_test(MERGE, None), &logs)?);
                logs.trace(&model, &TracedSample::of(plan, MERGE))?;
            }
            logs.done(outcomes)
        },
        |outcomes| format!("{} measurements of the merge", outcomes.len()),
    )
}

/// The gate's decision on a comparison.
pub(crate) fn decide(plan: &PipelinePlan, table: &ComparisonTable) -> Result<GateDecision, PipelineError> {
    let gate = &plan.gate;
    Ok(GateDecision::judge(
        table,
        &GateRule {
            on: gate.on.id().to_owned(),
            max_regress: gate.max_regress,
            action: translate::gate_action(gate.action),
        },
    )?)
}

/// Applies the gate: its decision is recorded, and a refusal ends the run.
pub(crate) fn judge(pipeline: &TrainedPipeline<'_>, table: &ComparisonTable) -> Result<GateDecision, PipelineError> {
    let decision = decide(pipeline.plan, table)?;
    write_json(&RunDir::new(&pipeline.plan.run_dir).gate(), &decision)?;
    match &decision {
        GateDecision::Refuse { message, .. } => Err(PipelineError::Refused {
            name: pipeline.plan.name.clone(),
            reason: message.clone(),
        }),
        GateDecision::Stamp { message, .. } => {
            pipeline.run.reporter.note(message);
            Ok(decision)
        }
        GateDecision::Pass { .. } => Ok(decision),
    }
}
