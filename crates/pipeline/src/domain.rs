//! What a specialist's domain is measured on: its held-out rows and the suites its recipe names.

use std::path::{Path, PathBuf};

use synapse_data::PackedDataset;
use synapse_evaluate::{
    Document, Form, Journal, Journaled, Outcome, QuestionAnswer, RunOptions, SourceRow, Subject, Suite, SuiteData,
    read_rows,
};
use synapse_recipe::{SpecialistPlan, SuiteId};

use crate::{Fetched, FetchedSource, Lab, PipelineError, Run, record::StageRun, trace::TracedSample, translate};

/// What suites read from a folder of prepared data; nothing without one.
///
/// # Errors
/// The folder's files are missing or malformed.
pub fn suite_data(data: Option<&Path>) -> Result<SuiteData, PipelineError> {
    let Some(data) = data else {
        return Ok(SuiteData {
            domain: "model".into(),
            ..SuiteData::default()
        });
    };
    let held_out = PackedDataset::open(&data.join("held_out.arrow"))?;
    let documents = (0..held_out.len())
        .map(|index| {
            let row = held_out.row(index);
            Document {
                input_ids: row.input_ids,
                labels: row.labels,
            }
        })
        .collect();
    let rows = read_rows(&data.join("held_out.jsonl"))?;
    let labels = synapse_data::routing::LABELS.map(str::to_owned).to_vec();
    Ok(SuiteData {
        domain: "held-out".into(),
        documents,
        rows,
        labels,
        ..SuiteData::default()
    })
}

/// Adds the questions of a suite that reads files.
///
/// # Errors
/// A file that cannot be read; file and place are named.
pub fn add_questions(data: &mut SuiteData, suite: SuiteId, fetched: &FetchedSource) -> Result<(), PipelineError> {
    let files = fetched.files().files;
    if suite == SuiteId::Gsm8k {
        let questions = synapse_data::read_questions(&files)?;
        data.questions = questions
            .into_iter()
            .map(|(question, answer)| QuestionAnswer { question, answer })
            .collect();
        return Ok(());
    }
    let mut rows = Vec::new();
    for file in &files {
        let records = synapse_data::read_records(file)?;
        rows.extend(records.into_iter().map(|(place, fields)| SourceRow::new(place, fields)));
    }
    data.files.insert(suite.id().to_owned(), rows);
    Ok(())
}

/// A domain ready to be asked.
pub(crate) struct Domain {
    name: String,
    suites: Vec<Box<dyn Suite>>,
    options: RunOptions,
}

impl Domain {
    /// The domain of a recipe from its prepared data.
    pub(crate) fn open(plan: &SpecialistPlan, data: &Path, fetched: &Fetched) -> Result<Self, PipelineError> {
        let mut source = suite_data(Some(data))?;
        source.domain.clone_from(&plan.name);
        for (suite, files) in &fetched.questions {
            add_questions(&mut source, *suite, files)?;
        }
        source.form = Form {
            prompting: translate::prompting(plan.evaluate.prompting),
            shots: plan.evaluate.shots,
            system_prompt: plan.system_prompt.clone(),
        };
        if let Some(router) = &plan.router {
            source.labels.clone_from(&router.labels);
        }
        let suites = plan
            .evaluate
            .suites
            .iter()
            .map(|id| synapse_evaluate::build(id.id(), &source))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: plan.name.clone(),
            suites,
            options: RunOptions {
                limit: plan.evaluate.limit.map(|limit| limit as usize),
                max_new_tokens: plan.evaluate.max_new_tokens,
                samples: plan.evaluate.samples,
                temperature: plan.evaluate.temperature as f32,
                seed: plan.train.seed,
            },
        })
    }

    /// Measures one model and writes the log of every item. What an interrupted run had answered is not asked again.
    pub(crate) fn measure(
        &self,
        run: &Run<'_>,
        subject: &mut dyn Subject,
        logs: &Logs,
    ) -> Result<Vec<Outcome>, PipelineError> {
        let name = subject.name().to_owned();
        let mut subject = Journaled::new(subject, Some(logs.journal(&self.name, &name)?), run.stop);
        let mut outcomes = Vec::new();
        for suite in &self.suites {
            let report = |done: usize, total: usize| {
                let what = format!("{name}: {} {}", suite.domain(), suite.id());
                run.reporter.progress(&what, done as u64, Some(total as u64));
            };
            for evaluation in suite.run(&mut subject, &self.options, &report)? {
                evaluation.write_log(&logs.folder)?;
                outcomes.push(evaluation.outcome);
            }
        }
        Ok(outcomes)
    }
}

/// Where the items of one evaluation are written: finished logs, and beside them journals while it goes on.
pub(crate) struct Logs {
    folder: PathBuf,
    journals: PathBuf,
    evaluation: String,
}

impl Logs {
    /// The logs of a stage; a stage that is to be repeated begins without journals.
    pub(crate) fn open(stage: &StageRun<'_>) -> Result<Self, PipelineError> {
        let folder = stage.folder.join("evaluation");
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

    /// Leaves a sample answer with what a model's modules did for it, for the run's page.
    pub(crate) fn trace(&self, lab: &Lab, sample: &TracedSample<'_>) -> Result<(), PipelineError> {
        sample.leave(lab, &self.folder)
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
