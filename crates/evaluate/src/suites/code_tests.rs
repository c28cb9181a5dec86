//! `code-tests`: programs a model wrote, run against asserts by `python3` in the sandbox.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::extract::python_source;
use super::{Progress, Prompt, RunOptions, Suite, conversation, generate, record, unfinished_note};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::row::parse_jsonl;
use crate::sandbox::{CodeVerdict, Job, Sandbox};
use crate::subject::{Generation, Subject};
use crate::{EvaluateError, Result};

/// One programming task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeTask {
    /// Stable id.
    pub id: String,
    /// What the model is asked; names the function and its parameters.
    pub prompt: String,
    /// The function the tests call.
    pub entry_point: String,
    /// `assert` statements that call it.
    pub tests: Vec<String>,
    /// A solution that passes every test.
    pub canonical: String,
    /// A plausible solution that fails at least one.
    pub wrong: String,
}

impl CodeTask {
    /// The tasks that come with this crate, written for it.
    ///
    /// # Errors
    /// [`EvaluateError::Row`] if a bundled line does not parse, which a test rules out.
    pub fn bundled() -> Result<Vec<Self>> {
        parse_jsonl(
            include_str!("../../data/code-tests.jsonl"),
            Path::new("code-tests.jsonl"),
        )
    }

    /// The answer's program with this task's tests, ready to be run.
    #[must_use]
    pub fn job(&self, answer: &str) -> Job {
        Job {
            code: python_source(answer, &self.entry_point),
            entry_point: self.entry_point.clone(),
            tests: self.tests.clone(),
        }
    }
}

/// Programming tasks whose answers are executed.
#[derive(Debug, Clone)]
pub struct CodeTests {
    /// The domain measured.
    pub domain: String,
    /// The tasks.
    pub tasks: Vec<CodeTask>,
    /// System turn, if any.
    pub system_prompt: Option<String>,
    /// Where answers are run, or why they cannot be.
    pub sandbox: std::result::Result<Sandbox, String>,
}

impl Suite for CodeTests {
    fn id(&self) -> &'static str {
        "code-tests"
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(&self, subject: &mut dyn Subject, options: &RunOptions, progress: Progress<'_>) -> Result<Vec<Evaluation>> {
        let sandbox = match &self.sandbox {
            Ok(sandbox) => sandbox,
            Err(why) => {
                let identity = Identity {
                    suite: self.id(),
                    domain: &self.domain,
                    subject: subject.name(),
                };
                let outcome = Outcome::unmeasured(&identity, Unit::Fraction, why.as_str());
                return Ok(vec![Evaluation {
                    outcome,
                    records: Vec::new(),
                }]);
            }
        };
        let tasks = options.limited(&self.tasks);
        let prompts = tasks
            .iter()
            .map(|task| {
                Prompt::chat(
                    subject,
                    &task.id,
                    &conversation(self.system_prompt.as_deref(), &task.prompt),
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let generation = Generation {
            max_new_tokens: options.max_new_tokens,
            stop: Vec::new(),
        };
        let answers = generate(self.id(), subject, prompts, &generation, progress)?;
        let jobs: Vec<Job> = tasks
            .iter()
            .zip(&answers)
            .map(|(task, answer)| task.job(&answer.text))
            .collect();
        let verdicts = run_all(sandbox, &jobs)?;
        let (mut items, mut records) = (Vec::new(), Vec::new());
        for (((task, answer), job), verdict) in tasks.iter().zip(&answers).zip(&jobs).zip(&verdicts) {
            let failure = verdict.failure();
            records.push(record([
                ("id", Value::from(task.id.as_str())),
                ("question", task.prompt.as_str().into()),
                ("reference", task.canonical.as_str().into()),
                ("answer", answer.text.as_str().into()),
                ("code", job.code.as_str().into()),
                ("correct", failure.is_none().into()),
                ("failure", json!(failure)),
                ("tokens", answer.token_ids.len().into()),
                ("finished", answer.finished.into()),
            ]));
            items.push(Item {
                id: task.id.clone(),
                value: f64::from(u8::from(failure.is_none())),
                weight: 1.0,
            });
        }
        let identity = Identity {
            suite: self.id(),
            domain: &self.domain,
            subject: subject.name(),
        };
        let mut outcome = Outcome::fractions(&identity, items);
        outcome.add_note(&format!("sandbox: {}", sandbox.protection()));
        if let Some(note) = unfinished_note(&answers, options.max_new_tokens) {
            outcome.add_note(&note);
        }
        Ok(vec![Evaluation { outcome, records }])
    }
}

/// Runs every job, as many at once as there are cores; verdicts in the jobs' order.
fn run_all(sandbox: &Sandbox, jobs: &[Job]) -> Result<Vec<CodeVerdict>> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(jobs.len().max(1));
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else {
                return done;
            };
            done.push((index, sandbox.run(job)));
        }
    };
    let mut found: Vec<(usize, Result<CodeVerdict>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        // A worker only panics on a defect of this crate, which must not look like wrong answers.
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| worker_died()))
            .collect::<Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, verdict)| verdict).collect()
}

fn worker_died() -> EvaluateError {
    EvaluateError::Sandbox {
        message: "a worker ended early",
        source: std::io::Error::other("panic"),
    }
}
