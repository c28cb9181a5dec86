//! The evaluate stage of a pipeline: the base on every domain, each specialist on its own.

use std::path::Path;

use synapse_evaluate::Outcome;
use synapse_nn::LoadOptions;
use synapse_recipe::Stage;

use crate::{
    LoadedModel, PipelineError,
    comparison::BASE,
    domain::Logs,
    record::{fingerprint, under_template_arguments},
    trace::TracedSample,
    trained_pipeline::TrainedPipeline,
};

/// Base on every domain, each specialist on its own.
pub(crate) fn evaluate_specialists(pipeline: &TrainedPipeline<'_>) -> Result<Vec<Outcome>, PipelineError> {
    let parts = (
        pipeline.suites(),
        &pipeline.plan.gate.on,
        (pipeline.held_out(), pipeline.questions()),
        pipeline.hashes(),
        &pipeline.base_hash,
    );
    let arguments = pipeline.template_arguments();
    let fingerprint = under_template_arguments(&arguments, fingerprint(Stage::Evaluate, &parts)?);
    let stage = pipeline.stage(Stage::Evaluate, fingerprint);
    stage.execute(
        |_: &Vec<Outcome>| true,
        || {
            let adapters: Vec<(&str, &Path)> = pipeline
                .specialists
                .iter()
                .map(|(plan, _)| (plan.name.as_str(), plan.output.as_path()))
                .collect();
            let model = LoadedModel::open(&pipeline.base, &adapters, &LoadOptions::BF16)?
                .with_template_arguments(&arguments)?;
            let logs = Logs::open(&stage)?;
            let mut outcomes = Vec::new();
            for (domain, (plan, _)) in pipeline.domains()?.iter().zip(&pipeline.specialists) {
                outcomes.extend(domain.measure(pipeline.run, &mut model.under_test(BASE, None), &logs)?);
                outcomes.extend(domain.measure(
                    pipeline.run,
                    &mut model.under_test(&plan.name, Some(&plan.name)),
                    &logs,
                )?);
                logs.trace(&model, &TracedSample::of(plan, &plan.name).under(&plan.name))?;
            }
            logs.done(outcomes)
        },
        |outcomes| format!("{} measurements of base and specialists", outcomes.len()),
    )
}
