//! One specialist's domain: its held-out rows and the suites its recipe names, run on a model and logged item by item.

use std::path::PathBuf;

use synapse_evaluate::journal::{Journal, JournaledModel};
use synapse_evaluate::suites::PromptFormat;
use synapse_evaluate::{EvalModel, EvalOptions, Outcome, Suite};
use synapse_recipe::{EvaluatePlan, SpecialistPlan};

use crate::{
    Fetched, LoadedModel, PipelineError, ProgressUnit, Run, add_questions, record::StageRun, run_dir::RunDir,
    suite_data, trace::TracedSample, translate,
};

/// A domain's suites, ready to be run.
pub(crate) struct Domain {
    name: String,
    suites: Vec<Box<dyn Suite>>,
    options: EvalOptions,
}

impl Domain {
    /// The domain of a recipe, with the suites of `evaluate`.
    pub(crate) fn open(
        plan: &SpecialistPlan,
        evaluate: &EvaluatePlan,
        fetched: &Fetched,
    ) -> Result<Self, PipelineError> {
        let mut source = suite_data(Some(&RunDir::new(&plan.run_dir).data()))?;
        source.domain.clone_from(&plan.name);
        for (suite, files) in &fetched.questions {
            add_questions(&mut source, *suite, files)?;
        }
        source.prompt_format = PromptFormat {
            style: translate::prompting(evaluate.prompting),
            shots: evaluate.shots,
            system_prompt: plan.system_prompt.clone(),
        };
        if let Some(router) = &plan.router {
            source.labels.clone_from(&router.labels);
        }
        let suites = evaluate
            .suites
            .iter()
            .map(|id| synapse_evaluate::suites::build(id.id(), &source))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: plan.name.clone(),
            suites,
            options: EvalOptions {
                limit: evaluate.limit.map(|limit| limit as usize),
                max_new_tokens: evaluate.max_new_tokens,
                samples: evaluate.samples,
                temperature: evaluate.temperature as f32,
                seed: plan.train.seed,
            },
        })
    }

    /// Measures one model and logs every item. Answers that an interrupted run has already got are not generated again.
    pub(crate) fn measure(
        &self,
        run: &Run<'_>,
        model: &mut dyn EvalModel,
        logs: &Logs,
    ) -> Result<Vec<Outcome>, PipelineError> {
        let name = model.name().to_owned();
        let mut model = JournaledModel::new(model, Some(logs.journal(&self.name, &name)?), run.stop);
        let mut outcomes = Vec::new();
        for suite in &self.suites {
            let report = |done: usize, total: usize| {
                let what = format!("{name}: {} {}", suite.domain(), suite.id());
                run.reporter
                    .progress(&what, ProgressUnit::Items, done as u64, Some(total as u64));
            };
            for evaluation in suite.run(&mut model, &self.options, &report)? {
                evaluation.write_log(&logs.folder)?;
                outcomes.push(evaluation.outcome);
            }
        }
        Ok(outcomes)
    }
}

/// Where one evaluation logs its items: finished logs, and journals while it runs.
pub(crate) struct Logs {
    folder: PathBuf,
    journals: PathBuf,
    evaluation: String,
}

impl Logs {
    /// The logs of a stage. A stage that is repeated starts without journals.
    pub(crate) fn open(stage: &StageRun<'_>) -> Result<Self, PipelineError> {
        let folder = RunDir::new(stage.folder).evaluation();
        let logs = Self {
            journals: folder.join(format!("{}-journals", stage.stage.id())),
            evaluation: stage.fingerprint.clone(),
            folder,
        };
        if stage.run.repeats(stage.stage) {
            logs.remove_journals()?;
        }
        Ok(logs)
    }

    fn journal(&self, domain: &str, subject: &str) -> Result<Journal, PipelineError> {
        let path = self.journals.join(format!("{domain}.{subject}.jsonl"));
        Ok(Journal::open(
            &path,
            &format!("{} {domain} {subject}", self.evaluation),
        )?)
    }

    /// Writes a sample answer with the activity of the model's modules, for the run's page.
    pub(crate) fn trace(&self, model: &LoadedModel, sample: &TracedSample<'_>) -> Result<(), PipelineError> {
        sample.leave(model, &self.folder)
    }

    /// The evaluation is complete: its journals are no longer needed.
    pub(crate) fn done(&self, outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, PipelineError> {
        self.remove_journals()?;
        Ok(outcomes)
    }

    fn remove_journals(&self) -> Result<(), PipelineError> {
        if self.journals.is_dir() {
            std::fs::remove_dir_all(&self.journals).map_err(PipelineError::io(&self.journals))?;
        }
        Ok(())
    }
}
