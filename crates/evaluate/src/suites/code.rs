//! `code-tests`, `humaneval`, `mbpp`: programs a model wrote, run against their tests by `python3` in the sandbox.
//!
//! Each task is answered once, or sampled several times; then the score is the unbiased pass@k.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};

use super::prompt::{PromptFormat, PromptStyle, generate, unfinished_note};
use super::suite::{EvalOptions, Suite, SuiteProgress, record, unmeasured};
use crate::datasets::CodeProblem;
use crate::model::{EvalModel, Generated, GenerationOptions};
use crate::outcome::{Evaluation, Identity, Item, Outcome, Unit};
use crate::sandbox::{CodeVerdict, Sandbox, SandboxJob};
use crate::statistics::{Weighted, bootstrap_mean, pass_at_k, weighted_mean};
use crate::{EvaluateError, Result};

/// The k of pass@k that are reported, up to the number of samples.
const REPORTED: [usize; 4] = [1, 5, 10, 100];

/// Programming tasks whose answers are executed.
#[derive(Debug, Clone)]
pub struct CodeSuite {
    /// The suite's id.
    pub id: &'static str,
    /// The domain measured.
    pub domain: String,
    /// The tasks.
    pub tasks: Vec<CodeProblem>,
    /// How they are formatted.
    pub prompt_format: PromptFormat,
    /// Where answers are run, or why they cannot be run.
    pub sandbox: std::result::Result<Sandbox, String>,
}

/// One answer, as it was run and judged.
struct Attempt {
    answer: Generated,
    job: SandboxJob,
    failure: Option<String>,
}

impl CodeSuite {
    /// `samples` answers to every task, task by task.
    fn answers(
        &self,
        model: &mut dyn EvalModel,
        tasks: &[CodeProblem],
        options: &EvalOptions,
        progress: SuiteProgress<'_>,
    ) -> Result<Vec<Vec<Generated>>> {
        let raw = self.prompt_format.style == PromptStyle::Raw;
        let prompts = tasks
            .iter()
            .map(|task| self.prompt_format.ask(model, &task.id, &task.question, &task.prompt))
            .collect::<Result<Vec<_>>>()?;
        let mut answers: Vec<Vec<Generated>> = vec![Vec::new(); tasks.len()];
        let stop = tasks.first().filter(|_| raw).map_or(&[][..], |task| task.stop);
        for sample in 0..options.samples.max(1) {
            let generation = GenerationOptions {
                temperature: options.temperature,
                seed: options.seed + sample as u64,
                ..GenerationOptions::greedy(options.max_new_tokens, stop)
            };
            let report = |done, _| progress(sample * tasks.len() + done, options.samples.max(1) * tasks.len());
            let round = generate(self.id, model, &prompts, &generation, &report)?;
            for (answers, answer) in answers.iter_mut().zip(round) {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    fn attempts(
        &self,
        model: &dyn EvalModel,
        sandbox: &Sandbox,
        tasks: &[CodeProblem],
        answers: Vec<Vec<Generated>>,
    ) -> Result<Vec<Vec<Attempt>>> {
        let job = |task: &CodeProblem, answer: &Generated| match self.prompt_format.style {
            PromptStyle::Chat => task.job(&answer.text),
            PromptStyle::Raw => task.continued(&answer.text),
        };
        let jobs: Vec<SandboxJob> = tasks
            .iter()
            .zip(&answers)
            .flat_map(|(task, answers)| answers.iter().map(move |answer| job(task, answer)))
            .collect();
        let mut verdicts = Vec::with_capacity(jobs.len());
        // Programs may take seconds each, so a request to stop is checked between small groups.
        for group in jobs.chunks(16) {
            if model.is_stopped() {
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

impl Suite for CodeSuite {
    fn id(&self) -> &'static str {
        self.id
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(
        &self,
        model: &mut dyn EvalModel,
        options: &EvalOptions,
        progress: SuiteProgress<'_>,
    ) -> Result<Vec<Evaluation>> {
        let sandbox = match &self.sandbox {
            Ok(sandbox) => sandbox,
            Err(why) => return Ok(vec![unmeasured(self, model, Unit::Fraction, why)]),
        };
        let tasks = options.limited(&self.tasks);
        if tasks.is_empty() {
            return Ok(vec![unmeasured(self, model, Unit::Fraction, "no tasks")]);
        }
        let answers = self.answers(model, tasks, options, progress)?;
        let attempts = self.attempts(model, sandbox, tasks, answers)?;
        let mut items = Vec::new();
        let mut right = Vec::new();
        for (task, attempts) in tasks.iter().zip(&attempts) {
            let passed = attempts.iter().filter(|attempt| attempt.failure.is_none()).count();
            right.push((attempts.len(), passed));
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
            model: model.name(),
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

/// One record per task: its first answer, and all answers if there are several.
fn log(task: &CodeProblem, attempts: &[Attempt]) -> Map<String, Value> {
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

/// pass@k for every reported k up to the number of samples, with bootstrap intervals over tasks.
fn pass_at(right: &[(usize, usize)], samples: usize) -> Map<String, Value> {
    let estimates = REPORTED.iter().filter(|k| **k <= samples).map(|k| {
        let values: Vec<Weighted> = right.iter().map(|(n, c)| pass_at_k(*n, *c, *k).into()).collect();
        let estimate = json!({ "value": weighted_mean(&values), "interval": bootstrap_mean(&values) });
        (k.to_string(), estimate)
    });
    record([
        ("samples", json!(samples)),
        ("pass_at", Value::Object(estimates.collect())),
    ])
}

/// Runs all jobs on all cores; verdicts are in the jobs' order.
fn run_all(sandbox: &Sandbox, jobs: &[SandboxJob]) -> Result<Vec<CodeVerdict>> {
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
        // A panic is a defect of this crate and must not be scored as a wrong answer.
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
