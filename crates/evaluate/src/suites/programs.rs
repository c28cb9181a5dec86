//! `code-tests`, `humaneval`, `mbpp`: programs a model wrote, run against their tests by `python3` in the sandbox.
//!
//! Each task is answered once, or several times at a temperature; then the score is the unbiased pass@k.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use super::prompt::{Form, Prompting, generate, unfinished_note};
use super::{Progress, RunOptions, Suite, record, unmeasured};
use crate::layouts::Program;
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::sandbox::{CodeVerdict, Job, Sandbox};
use crate::statistics::{bootstrap_mean, pass_at_k, weighted_mean};
use crate::subject::{Generated, Generation, Subject};
use crate::{EvaluateError, Result};

/// The k of pass@k that are reported, as far as there are answers.
const REPORTED: [usize; 4] = [1, 5, 10, 100];

/// Programming tasks whose answers are executed.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The suite's id.
    pub id: &'static str,
    /// The domain measured.
    pub domain: String,
    /// The tasks.
    pub tasks: Vec<Program>,
    /// How they are put.
    pub form: Form,
    /// Where answers are run, or why they cannot be.
    pub sandbox: std::result::Result<Sandbox, String>,
}

/// One answer, as it was run and judged.
struct Attempt {
    answer: Generated,
    job: Job,
    failure: Option<String>,
}

impl Programs {
    /// `samples` answers to every task, task by task.
    fn answers(
        &self,
        subject: &mut dyn Subject,
        tasks: &[Program],
        options: &RunOptions,
        progress: Progress<'_>,
    ) -> Result<Vec<Vec<Generated>>> {
        let raw = self.form.prompting == Prompting::Raw;
        let prompts = tasks
            .iter()
            .map(|task| self.form.ask(subject, &task.id, &task.question, &task.prompt))
            .collect::<Result<Vec<_>>>()?;
        let mut answers: Vec<Vec<Generated>> = vec![Vec::new(); tasks.len()];
        let stop = tasks.first().filter(|_| raw).map_or(&[][..], |task| task.stop);
        for sample in 0..options.samples.max(1) {
            let generation = Generation {
                temperature: options.temperature,
                seed: options.seed + sample as u64,
                ..Generation::greedy(options.max_new_tokens, stop)
            };
            let report = |done, _| progress(sample * tasks.len() + done, options.samples.max(1) * tasks.len());
            let round = generate(self.id, subject, &prompts, &generation, &report)?;
            for (answers, answer) in answers.iter_mut().zip(round) {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    fn attempts(
        &self,
        subject: &dyn Subject,
        sandbox: &Sandbox,
        tasks: &[Program],
        answers: Vec<Vec<Generated>>,
    ) -> Result<Vec<Vec<Attempt>>> {
        let job = |task: &Program, answer: &Generated| match self.form.prompting {
            Prompting::Chat => task.job(&answer.text),
            Prompting::Raw => task.continued(&answer.text),
        };
        let jobs: Vec<Job> = tasks
            .iter()
            .zip(&answers)
            .flat_map(|(task, answers)| answers.iter().map(move |answer| job(task, answer)))
            .collect();
        let mut verdicts = Vec::with_capacity(jobs.len());
        // Programs may take seconds each: a request to stop is looked for between small groups of them.
        for group in jobs.chunks(16) {
            if subject.is_stopped() {
                return Err(EvaluateError::Stopped);
            }
            verdicts.extend(run_all(sandbox, group)?);
        }
        let mut judged = jobs.into_iter().zip(verdicts);
        let attempts = answers.into_iter().map(|answers| {
            answers
                .into_iter()
                .zip(judged.by_ref())
                .map(|(answer, (job, verdict))| Attempt {
                    answer,
                    job,
                    failure: verdict.failure(),
                })
                .collect()
        });
        Ok(attempts.collect())
    }
}

impl Suite for Programs {
    fn id(&self) -> &'static str {
        self.id
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(&self, subject: &mut dyn Subject, options: &RunOptions, progress: Progress<'_>) -> Result<Vec<Evaluation>> {
        let sandbox = match &self.sandbox {
            Ok(sandbox) => sandbox,
            Err(why) => return Ok(vec![unmeasured(self, subject, Unit::Fraction, why)]),
        };
        let tasks = options.limited(&self.tasks);
        if tasks.is_empty() {
            return Ok(vec![unmeasured(self, subject, Unit::Fraction, "no tasks")]);
        }
        let answers = self.answers(subject, tasks, options, progress)?;
        let attempts = self.attempts(subject, sandbox, tasks, answers)?;
        let mut items = Vec::new();
        let mut right = Vec::new();
        for (task, attempts) in tasks.iter().zip(&attempts) {
            let passed = attempts.iter().filter(|attempt| attempt.failure.is_none()).count();
            right.push((task.id.as_str(), attempts.len(), passed));
            items.push(Item {
                id: task.id.clone(),
                value: pass_at_k(attempts.len(), passed, 1),
                weight: 1.0,
            });
        }
        let records = tasks
            .iter()
            .zip(&attempts)
            .map(|(task, attempts)| log(task, attempts))
            .collect();
        let identity = Identity {
            suite: self.id,
            domain: &self.domain,
            subject: subject.name(),
        };
        let mut outcome = Outcome::fractions(&identity, items);
        if options.samples > 1 {
            outcome.details = pass_at(&right, options.samples);
            outcome.add_note(&format!(
                "pass@1 of {} answers a task at temperature {}",
                options.samples, options.temperature
            ));
        }
        outcome.add_note(&format!("sandbox: {}", sandbox.protection()));
        let all = attempts.iter().flatten().map(|attempt| &attempt.answer);
        if let Some(note) = unfinished_note(all, options.max_new_tokens) {
            outcome.add_note(&note);
        }
        Ok(vec![Evaluation { outcome, records }])
    }
}

/// One record a task: its first answer, and every answer where there are several.
fn log(task: &Program, attempts: &[Attempt]) -> Map<String, Value> {
    let fields = |attempt: &Attempt| {
        [
            ("answer", Value::from(attempt.answer.text.as_str())),
            ("code", attempt.job.code.as_str().into()),
            ("correct", attempt.failure.is_none().into()),
            ("failure", json!(attempt.failure)),
            ("tokens", attempt.answer.token_ids.len().into()),
            ("finished", attempt.answer.finished.into()),
        ]
    };
    let mut found = record([
        ("id", Value::from(task.id.as_str())),
        ("question", task.question.as_str().into()),
        ("reference", task.canonical.as_str().into()),
    ]);
    if let Some(first) = attempts.first() {
        found.extend(record(fields(first)));
    }
    if attempts.len() > 1 {
        let all: Vec<Value> = attempts.iter().map(|attempt| record(fields(attempt)).into()).collect();
        found.insert("samples".into(), all.into());
    }
    found
}

/// pass@k for every reported k that there are answers for, with bootstrap intervals over tasks.
fn pass_at(right: &[(&str, usize, usize)], samples: usize) -> Map<String, Value> {
    let estimates = REPORTED.iter().filter(|k| **k <= samples).map(|k| {
        let items: Vec<Item> = right
            .iter()
            .map(|(id, n, c)| Item {
                id: (*id).to_owned(),
                value: pass_at_k(*n, *c, *k),
                weight: 1.0,
            })
            .collect();
        let estimate = json!({ "value": weighted_mean(&items), "interval": bootstrap_mean(&items) });
        (k.to_string(), estimate)
    });
    record([
        ("samples", json!(samples)),
        ("pass_at", Value::Object(estimates.collect())),
    ])
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
