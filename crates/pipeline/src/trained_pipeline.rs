//! A pipeline whose recipes are all trained: what its own stages start from and are fingerprinted by.

use std::path::PathBuf;

use serde_json::{Map, Value};
use synapse_recipe::{PipelinePlan, SpecialistPlan, Stage};

use crate::{
    Fetched, PipelineError, RecipeOutcome, Run,
    domain::Domain,
    record::{StageRun, write_json},
    run_dir::RunDir,
    run_recipe::prepare_and_train,
    stages::fetch::QuestionIdentities,
};

/// A pipeline with all recipes trained.
pub(crate) struct TrainedPipeline<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) plan: &'a PipelinePlan,
    pub(crate) specialists: Vec<(&'a SpecialistPlan, RecipeOutcome)>,
    pub(crate) base: PathBuf,
    pub(crate) base_hash: String,
}

impl<'a> TrainedPipeline<'a> {
    /// Arguments of the chat template, on which the recipes agree.
    pub(crate) fn template_arguments(&self) -> Map<String, Value> {
        self.plan
            .specialists
            .first()
            .map(|plan| plan.chat.clone())
            .unwrap_or_default()
    }

    /// Runs every recipe up to its trained adapter.
    pub(crate) fn train(run: &'a Run<'a>, plan: &'a PipelinePlan) -> Result<Self, PipelineError> {
        write_json(&RunDir::new(&plan.run_dir).plan(), plan)?;
        let mut specialists = Vec::with_capacity(plan.specialists.len());
        for specialist in &plan.specialists {
            specialists.push((specialist, prepare_and_train(run, specialist)?));
        }
        let Some((_, first)) = specialists.first() else {
            return Err(PipelineError::Unusable {
                what: format!("pipeline `{}` names no recipes", plan.name),
                hint: "list them under `recipes:`".into(),
            });
        };
        let (base, base_hash) = (first.fetched.base.folder.clone(), first.fetched.base.hash.clone());
        Ok(Self {
            run,
            plan,
            specialists,
            base,
            base_hash,
        })
    }
}

impl TrainedPipeline<'_> {
    fn hash(&self, index: usize) -> &str {
        self.specialists[index]
            .1
            .trained
            .as_ref()
            .map_or("", |trained| &trained.hash)
    }

    /// sha256 of each specialist's weights.
    pub(crate) fn hashes(&self) -> Vec<&str> {
        (0..self.specialists.len()).map(|index| self.hash(index)).collect()
    }

    /// sha256 of the held-out rows of every domain.
    pub(crate) fn held_out(&self) -> Vec<&str> {
        self.specialists
            .iter()
            .map(|(_, outcome)| {
                outcome
                    .manifest
                    .as_ref()
                    .map_or("", |manifest| manifest.held_out.sha256.as_str())
            })
            .collect()
    }

    /// Every domain with the suites that the pipeline measures.
    pub(crate) fn domains(&self) -> Result<Vec<Domain>, PipelineError> {
        self.specialists
            .iter()
            .map(|(specialist, outcome)| {
                // the pipeline's list restricts each recipe's; the gate's suite is always measured
                let wanted = &self.plan.evaluate;
                let mut evaluate = specialist.evaluate.clone();
                evaluate.suites.retain(|suite| wanted.suites.contains(suite));
                if !evaluate.suites.contains(&self.plan.gate.on) {
                    evaluate.suites.push(self.plan.gate.on);
                }
                evaluate.limit = wanted.limit.or(evaluate.limit);
                Domain::open(specialist, &evaluate, &outcome.fetched)
            })
            .collect()
    }

    /// One of the pipeline's own stages.
    pub(crate) fn stage(&self, stage: Stage, fingerprint: String) -> StageRun<'_> {
        StageRun {
            run: self.run,
            name: &self.plan.name,
            folder: &self.plan.run_dir,
            stage,
            fingerprint,
        }
    }

    /// What identifies the questions of every domain.
    pub(crate) fn questions(&self) -> Vec<QuestionIdentities<'_>> {
        let fetched = self.specialists.iter().map(|(_, outcome)| &outcome.fetched);
        fetched.map(Fetched::question_identities).collect()
    }

    /// The `evaluate:` sections of the recipes and of the pipeline.
    pub(crate) fn suites(&self) -> Vec<&synapse_recipe::EvaluatePlan> {
        self.specialists
            .iter()
            .map(|(specialist, _)| &specialist.evaluate)
            .chain([&self.plan.evaluate])
            .collect()
    }
}
