//! A recipe: fetch, prepare, train and evaluate, as far as its stage list and the command line go.

use synapse_data::Manifest;
use synapse_evaluate::Outcome;
use synapse_recipe::{Plan, SpecialistPlan, Stage};

use crate::{
    Fetched, PipelineError, Run, TrainingSummary, check_data_limits, check_row_lengths,
    page::with_page,
    record::write_json,
    run_dir::RunDir,
    stages::{
        evaluate::evaluate_recipe,
        fetch::fetch,
        prepare::{prepare, read_prepared},
        train::train,
    },
};

/// How far a recipe came and what it left.
#[derive(Debug, Clone)]
pub struct RecipeOutcome {
    /// Base and data files.
    pub fetched: Fetched,
    /// The prepared data's manifest, once prepared.
    pub manifest: Option<Manifest>,
    /// What training did, once trained.
    pub trained: Option<TrainingSummary>,
    /// Base and specialist on the recipe's own domain, once evaluated.
    pub outcomes: Vec<Outcome>,
}

/// Runs a recipe.
///
/// # Errors
/// Whatever a stage refuses; what was finished stays and is not repeated next time.
pub fn run_recipe(run: &Run<'_>, plan: &SpecialistPlan) -> Result<RecipeOutcome, PipelineError> {
    with_page(run, Plan::Specialist(plan.clone()), |run| all_stages(run, plan))
}

fn all_stages(run: &Run<'_>, plan: &SpecialistPlan) -> Result<RecipeOutcome, PipelineError> {
    let mut outcome = prepare_and_train(run, plan)?;
    let wanted = plan.stages.contains(&Stage::Evaluate) && !run.ends_before(Stage::Evaluate);
    if let (true, Some(manifest), Some(trained)) = (wanted, &outcome.manifest, &outcome.trained) {
        outcome.outcomes = evaluate_recipe(run, plan, &outcome.fetched, (manifest, trained))?;
    }
    Ok(outcome)
}

/// Everything up to the trained artifact.
pub(crate) fn prepare_and_train(run: &Run<'_>, plan: &SpecialistPlan) -> Result<RecipeOutcome, PipelineError> {
    write_json(&RunDir::new(&plan.run_dir).plan(), plan)?;
    let mut outcome = RecipeOutcome {
        fetched: fetch(run, plan)?,
        manifest: None,
        trained: None,
        outcomes: Vec::new(),
    };
    let includes = |stage: Stage| plan.stages.contains(&stage) && !run.ends_before(stage);
    if includes(Stage::Prepare) {
        outcome.manifest = Some(prepare(run, plan, &outcome.fetched)?);
    }
    if includes(Stage::Train) {
        let manifest = match outcome.manifest.take() {
            Some(manifest) => manifest,
            None => read_prepared(plan)?,
        };
        check_data_limits(plan, &manifest)?;
        check_row_lengths(plan, &outcome.fetched, &manifest)?;
        outcome.trained = Some(train(run, plan, &outcome.fetched, &manifest)?);
        outcome.manifest = Some(manifest);
    }
    Ok(outcome)
}
