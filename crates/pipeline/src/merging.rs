//! A pipeline: its recipes, then evaluate → merge → gate → export.

use std::path::{Path, PathBuf};

use synapse_evaluate::{ComparisonTable, GateDecision, GateRule, Outcome};
use synapse_merge::{MergeReport, MergeRequest};
use synapse_nn::LoadOptions;
use synapse_recipe::{PipelinePlan, Plan, SpecialistPlan, Stage};

use crate::{
    Lab, PipelineError, Run, SpecialistOutcome,
    comparison::{BASE, MERGE, compare},
    domain::{Domain, Logs},
    merge_request::merge_request,
    publish::{Publication, publish},
    record::{StageRun, fingerprint, write_json},
    specialist::{Questions, data_folder, prepare_and_train, questions},
    trace::TracedSample,
    translate,
};

/// How far a pipeline came.
#[derive(Debug)]
pub struct PipelineOutcome {
    /// The comparison as drawn for the terminal, once measured.
    pub table: Option<String>,
    /// Whether a model was published.
    pub published: bool,
}

/// A pipeline with all recipes trained.
pub(crate) struct Trained<'a> {
    pub(crate) run: &'a Run<'a>,
    pub(crate) plan: &'a PipelinePlan,
    pub(crate) specialists: Vec<(&'a SpecialistPlan, SpecialistOutcome)>,
    pub(crate) base: PathBuf,
    pub(crate) base_hash: String,
}

/// Runs a pipeline.
///
/// # Errors
/// Whatever a stage refuses, or the gate.
pub fn run_pipeline(run: &Run<'_>, plan: &PipelinePlan) -> Result<PipelineOutcome, PipelineError> {
    let document = Plan::Pipeline(plan.clone());
    run.with_page(document, |run| all_stages(run, plan))
}

fn all_stages(run: &Run<'_>, plan: &PipelinePlan) -> Result<PipelineOutcome, PipelineError> {
    let mut outcome = PipelineOutcome {
        table: None,
        published: false,
    };
    let trained = Trained::of(run, plan)?;
    if run.ends_before(Stage::Evaluate) {
        return Ok(outcome);
    }
    let mut outcomes = trained.evaluate()?;
    outcome.table = Some(crate::table(&outcomes));
    if run.ends_before(Stage::Merge) {
        return Ok(outcome);
    }
    let (merged, report) = trained.merge()?;
    if run.ends_before(Stage::Gate) {
        return Ok(outcome);
    }
    outcomes.extend(trained.evaluate_merge(&merged)?);
    let table = compare(&outcomes)?;
    outcome.table = Some(table.render(80));
    write_json(&plan.run_dir.join("comparison.json"), &table)?;
    let decision = trained.judge(&table)?;
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

impl<'a> Trained<'a> {
    /// Trains what is not trained yet.
    pub(crate) fn of(run: &'a Run<'a>, plan: &'a PipelinePlan) -> Result<Self, PipelineError> {
        write_json(&plan.run_dir.join("plan.json"), plan)?;
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

impl Trained<'_> {
    fn hash(&self, index: usize) -> &str {
        self.specialists[index]
            .1
            .trained
            .as_ref()
            .map_or("", |trained| &trained.hash)
    }

    /// What identifies each specialist's weights.
    pub(crate) fn hashes(&self) -> Vec<&str> {
        (0..self.specialists.len()).map(|index| self.hash(index)).collect()
    }

    /// What the held-out rows of every domain are.
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

    /// Every domain with what it is asked.
    pub(crate) fn domains(&self) -> Result<Vec<Domain>, PipelineError> {
        self.specialists
            .iter()
            .map(|(specialist, outcome)| {
                let mut plan = (*specialist).clone();
                // the pipeline's list restricts each recipe's; what the gate looks at is always measured
                let wanted = &self.plan.evaluate;
                plan.evaluate.suites.retain(|suite| wanted.suites.contains(suite));
                if !plan.evaluate.suites.contains(&self.plan.gate.on) {
                    plan.evaluate.suites.push(self.plan.gate.on);
                }
                plan.evaluate.limit = wanted.limit.or(plan.evaluate.limit);
                Domain::open(&plan, &data_folder(specialist), &outcome.fetched)
            })
            .collect()
    }

    fn stage(&self, stage: Stage, fingerprint: String) -> StageRun<'_> {
        StageRun {
            run: self.run,
            name: &self.plan.name,
            folder: &self.plan.run_dir,
            stage,
            fingerprint,
        }
    }

    /// What identifies the questions of every domain.
    pub(crate) fn questions(&self) -> Vec<Questions<'_>> {
        let fetched = self.specialists.iter().map(|(_, outcome)| &outcome.fetched);
        fetched.map(questions).collect()
    }

    /// What each recipe and the pipeline measure.
    pub(crate) fn suites(&self) -> Vec<&synapse_recipe::EvaluatePlan> {
        self.specialists
            .iter()
            .map(|(specialist, _)| &specialist.evaluate)
            .chain([&self.plan.evaluate])
            .collect()
    }

    /// Base on every domain, each specialist on its own.
    pub(crate) fn evaluate(&self) -> Result<Vec<Outcome>, PipelineError> {
        let parts = (
            self.suites(),
            &self.plan.gate.on,
            (self.held_out(), self.questions()),
            self.hashes(),
            &self.base_hash,
        );
        let stage = self.stage(Stage::Evaluate, fingerprint(Stage::Evaluate, &parts)?);
        stage.execute(
            |_: &Vec<Outcome>| true,
            || {
                let adapters: Vec<(&str, &Path)> = self
                    .specialists
                    .iter()
                    .map(|(plan, _)| (plan.name.as_str(), plan.output.as_path()))
                    .collect();
                let lab = Lab::open(&self.base, &adapters, &LoadOptions::BF16)?;
                let logs = Logs::open(&stage)?;
                let mut outcomes = Vec::new();
                for (domain, (plan, _)) in self.domains()?.iter().zip(&self.specialists) {
                    outcomes.extend(domain.measure(self.run, &mut lab.subject(BASE, None), &logs)?);
                    outcomes.extend(domain.measure(self.run, &mut lab.subject(&plan.name, Some(&plan.name)), &logs)?);
                    logs.trace(&lab, &TracedSample::of(plan, &plan.name).under(&plan.name))?;
                }
                logs.done(outcomes)
            },
            |outcomes| format!("{} measurements of base and specialists", outcomes.len()),
        )
    }

    /// The merge as the pipeline asks for it.
    pub(crate) fn request(&self) -> Result<MergeRequest, PipelineError> {
        let mut request = merge_request(self.plan, None, &self.base, self.plan.run_dir.join("merged"))?;
        if let Some((specialist, _)) = self.specialists.first()
            && let synapse_recipe::Base::Hub { id, .. } = &specialist.base
        {
            request.aliases.insert(self.base.clone(), id.clone());
        }
        Ok(request)
    }

    /// The merged folder and what the merge did to each tensor.
    fn merge(&self) -> Result<(PathBuf, MergeReport), PipelineError> {
        let request = self.request()?;
        let parts = (
            &self.plan.merge,
            &self.plan.export.dtype,
            self.plan.export.shard_size,
            self.hashes(),
            &self.base_hash,
        );
        let stage = self.stage(Stage::Merge, fingerprint(Stage::Merge, &parts)?);
        let report = stage.execute(
            |_: &MergeReport| request.out.join("config.json").is_file(),
            || {
                Ok(synapse_merge::merge(&request, &|progress| {
                    self.run
                        .reporter
                        .progress("tensors merged", progress.done as u64, Some(progress.total as u64));
                })?)
            },
            |report| {
                format!(
                    "{} of {} adapters; {} tensors changed",
                    self.plan.merge.method,
                    self.specialists.len(),
                    report.tensors.len()
                )
            },
        )?;
        Ok((request.out, report))
    }

    /// The merge on every domain.
    fn evaluate_merge(&self, merged: &Path) -> Result<Vec<Outcome>, PipelineError> {
        let parts = (
            self.suites(),
            &self.plan.gate,
            (self.held_out(), self.questions()),
            self.hashes(),
            &self.base_hash,
            &self.plan.merge,
            &self.plan.export.dtype,
        );
        let stage = self.stage(Stage::Gate, fingerprint(Stage::Gate, &parts)?);
        stage.execute(
            |_: &Vec<Outcome>| true,
            || {
                let lab = Lab::open(merged, &[], &LoadOptions::BF16)?;
                let logs = Logs::open(&stage)?;
                let mut outcomes = Vec::new();
                for (domain, (plan, _)) in self.domains()?.iter().zip(&self.specialists) {
                    outcomes.extend(domain.measure(self.run, &mut lab.subject(MERGE, None), &logs)?);
                    logs.trace(&lab, &TracedSample::of(plan, MERGE))?;
                }
                logs.done(outcomes)
            },
            |outcomes| format!("{} measurements of the merge", outcomes.len()),
        )
    }

    /// What the gate says of a comparison.
    pub(crate) fn decide(&self, table: &ComparisonTable) -> Result<GateDecision, PipelineError> {
        let gate = &self.plan.gate;
        Ok(GateDecision::judge(
            table,
            &GateRule {
                on: gate.on.id().to_owned(),
                max_regress: gate.max_regress,
                action: translate::gate_action(gate.action),
            },
        )?)
    }

    fn judge(&self, table: &ComparisonTable) -> Result<GateDecision, PipelineError> {
        let decision = self.decide(table)?;
        write_json(&self.plan.run_dir.join("gate.json"), &decision)?;
        match &decision {
            GateDecision::Refuse { message, .. } => Err(PipelineError::Refused {
                name: self.plan.name.clone(),
                reason: message.clone(),
            }),
            GateDecision::Stamp { message, .. } => {
                self.run.reporter.note(message);
                Ok(decision)
            }
            GateDecision::Pass { .. } => Ok(decision),
        }
    }
}
