//! The evaluate stage of a recipe: base and specialist on the recipe's own domain.

use synapse_data::Manifest;
use synapse_evaluate::Outcome;
use synapse_nn::LoadOptions;
use synapse_recipe::{SpecialistPlan, Stage, TrainingMethod};

use crate::{
    Fetched, LoadedModel, PipelineError, Run, TrainingSummary,
    comparison::BASE,
    domain::{Domain, Logs},
    record::{StageRun, fingerprint, under_template_arguments},
    trace::TracedSample,
};

/// Base and specialist on the recipe's own domain.
pub(crate) fn evaluate_recipe(
    run: &Run<'_>,
    plan: &SpecialistPlan,
    fetched: &Fetched,
    (manifest, trained): (&Manifest, &TrainingSummary),
) -> Result<Vec<Outcome>, PipelineError> {
    let stage = StageRun {
        run,
        name: &plan.name,
        folder: &plan.run_dir,
        stage: Stage::Evaluate,
        fingerprint: under_template_arguments(
            &plan.chat,
            fingerprint(
                Stage::Evaluate,
                &(
                    &plan.evaluate,
                    fetched.question_identities(),
                    &manifest.held_out.sha256,
                    &fetched.base.hash,
                    &trained.hash,
                    &plan.system_prompt,
                ),
            )?,
        ),
    };
    stage.execute(
        |_: &Vec<Outcome>| true,
        || {
            let domain = Domain::open(plan, &plan.evaluate, fetched)?;
            let logs = Logs::open(&stage)?;
            let sample = TracedSample::of(plan, &plan.name);
            match plan.method {
                TrainingMethod::Full => {
                    let model = LoadedModel::open(&plan.output, &[], &LoadOptions::BF16)?
                        .with_template_arguments(&plan.chat)?;
                    logs.trace(&model, &sample)?;
                    logs.done(domain.measure(run, &mut model.under_test(&plan.name, None), &logs)?)
                }
                TrainingMethod::Lora(_) => {
                    let model =
                        LoadedModel::open(&fetched.base.folder, &[(&plan.name, &plan.output)], &LoadOptions::BF16)?
                            .with_template_arguments(&plan.chat)?;
                    let mut outcomes = domain.measure(run, &mut model.under_test(BASE, None), &logs)?;
                    outcomes.extend(domain.measure(run, &mut model.under_test(&plan.name, Some(&plan.name)), &logs)?);
                    logs.trace(&model, &sample.under(&plan.name))?;
                    logs.done(outcomes)
                }
            }
        },
        |outcomes| format!("{} measurements", outcomes.len()),
    )
}
