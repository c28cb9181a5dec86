//! What a specialist's domain is measured on: its held-out rows and the suites its recipe names.

use std::path::Path;

use synapse_data::PackedDataset;
use synapse_evaluate::{Document, Outcome, QuestionAnswer, RunOptions, Subject, Suite, SuiteData, read_rows};
use synapse_recipe::{SpecialistPlan, Stage};

use crate::{Fetched, PipelineError, Run};

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

/// A domain ready to be asked.
pub(crate) struct Domain {
    suites: Vec<Box<dyn Suite>>,
    options: RunOptions,
}

impl Domain {
    /// The domain of a recipe from its prepared data.
    pub(crate) fn open(plan: &SpecialistPlan, data: &Path, fetched: &Fetched) -> Result<Self, PipelineError> {
        let mut source = suite_data(Some(data))?;
        source.domain.clone_from(&plan.name);
        let questions = synapse_data::read_questions(&fetched.questions.files().files)?;
        source.questions = questions
            .into_iter()
            .map(|(question, answer)| QuestionAnswer { question, answer })
            .collect();
        source.system_prompt.clone_from(&plan.system_prompt);
        if let Some(router) = &plan.router {
            source.labels.clone_from(&router.labels);
        }
        let suites = plan
            .evaluate
            .suites
            .iter()
            .map(|id| synapse_evaluate::build(id, &source))
            .collect::<Result<_, _>>()?;
        let limit = plan.evaluate.limit.map(|limit| limit as usize);
        Ok(Self {
            suites,
            options: RunOptions {
                limit,
                max_new_tokens: plan.evaluate.max_new_tokens,
            },
        })
    }

    /// Measures one model and writes the log of every item.
    pub(crate) fn measure(
        &self,
        run: &Run<'_>,
        subject: &mut dyn Subject,
        logs: &Path,
    ) -> Result<Vec<Outcome>, PipelineError> {
        let name = subject.name().to_owned();
        let progress = |suite: &dyn Suite, done: usize, total: usize| {
            run.reporter.progress(
                &format!("{name}: {} {}", suite.domain(), suite.id()),
                done as u64,
                Some(total as u64),
            );
        };
        let mut outcomes = Vec::new();
        for suite in &self.suites {
            if run.stops() {
                return Err(PipelineError::Stopped {
                    name,
                    stage: Stage::Evaluate,
                });
            }
            let report = |done: usize, total: usize| progress(suite.as_ref(), done, total);
            for evaluation in suite.run(subject, &self.options, &report)? {
                evaluation.write_log(logs)?;
                outcomes.push(evaluation.outcome);
            }
        }
        Ok(outcomes)
    }
}
