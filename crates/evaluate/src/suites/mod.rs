//! The suites: each asks one model one kind of question and returns outcomes with a log of every item.

mod choices;
mod code_tests;
mod custom;
mod exact_match;
mod expression;
mod extract;
mod gsm8k;
mod held_out_loss;
mod math;
mod programs;
mod prompt;
mod routing;

use serde_json::{Map, Value};

pub use choices::{ChoiceStyle, MultipleChoice};
pub use code_tests::CodeTask;
pub use custom::Custom;
pub use exact_match::ExactMatch;
pub use expression::ExpressionTests;
pub(crate) use extract::python_source;
pub use gsm8k::{EXAMPLES, Gsm8k};
pub use held_out_loss::HeldOutLoss;
pub use programs::Programs;
pub use prompt::{Form, Prompting};
pub use routing::Routing;

use std::collections::BTreeMap;

use crate::layouts::{self, Program, SourceRow};
use crate::outcome::{Evaluation, Identity, Outcome, Unit};
use crate::row::{ChoiceRow, Document, QuestionAnswer, Row};
use crate::sandbox::Sandbox;
use crate::subject::Subject;
use crate::{EvaluateError, Result};

/// Every suite a recipe may name.
pub const SUITE_IDS: [&str; 13] = [
    "held-out-loss",
    "exact-match",
    "gsm8k",
    "code-tests",
    "expression",
    "routing",
    "choices",
    "humaneval",
    "mbpp",
    "mmlu",
    "arc",
    "hellaswag",
    "custom",
];

/// Suites whose questions come from files: a dataset of the hub, or rows of one's own.
pub const FILE_SUITES: [&str; 8] = [
    "gsm8k",
    "humaneval",
    "mbpp",
    "mmlu",
    "arc",
    "hellaswag",
    "choices",
    "custom",
];

/// Suites that can answer a task several times.
pub const SAMPLED_SUITES: [&str; 3] = ["code-tests", "humaneval", "mbpp"];

/// Documents or questions handed to a model at once: enough for any batch, few enough for progress to move.
const CHUNK: usize = 64;

/// How far to go.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOptions {
    /// Measure the first this many items of each task only; held-out loss always takes every document.
    pub limit: Option<usize>,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
    /// Answers to each programming task.
    pub samples: usize,
    /// Temperature of those answers; every other suite takes the likeliest token.
    pub temperature: f32,
    /// Seeds those answers; the nth has this seed plus n.
    pub seed: u64,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            limit: None,
            max_new_tokens: 256,
            samples: 1,
            temperature: 0.0,
            seed: 0,
        }
    }
}

impl RunOptions {
    fn limited<'a, T>(&self, items: &'a [T]) -> &'a [T] {
        &items[..self.limit.unwrap_or(items.len()).min(items.len())]
    }
}

/// Told items done and items in all.
pub type Progress<'a> = &'a dyn Fn(usize, usize);

/// One kind of question about one domain. A suite holds its rows; running it twice gives the same bytes.
pub trait Suite: Send + Sync {
    /// The id recipes name it by.
    fn id(&self) -> &'static str;

    /// The domain it measures.
    fn domain(&self) -> &str;

    /// Measures one model.
    ///
    /// # Errors
    /// When the model fails or an item cannot be asked as it is; a wrong answer is not an error.
    fn run(&self, subject: &mut dyn Subject, options: &RunOptions, progress: Progress<'_>) -> Result<Vec<Evaluation>>;
}

/// What a domain has to be measured on; a suite takes what it needs.
#[derive(Debug, Clone, Default)]
pub struct SuiteData {
    /// The domain, such as `math`.
    pub domain: String,
    /// held_out.arrow, one document each.
    pub documents: Vec<Document>,
    /// held_out.jsonl.
    pub rows: Vec<Row>,
    /// The GSM8K test split.
    pub questions: Vec<QuestionAnswer>,
    /// Rows of suites that read files, by suite.
    pub files: BTreeMap<String, Vec<SourceRow>>,
    /// Labels of router.json.
    pub labels: Vec<String>,
    /// How questions are put by suites whose rows are no conversations (gsm8k, code, multiple choice, custom).
    pub form: Form,
}

/// The suite with this id over `data`. Programs run in the sandbox that this machine allows.
///
/// # Errors
/// [`EvaluateError::UnknownSuite`]; [`EvaluateError::Layout`] when a file's rows are not the suite's.
pub fn build(id: &str, data: &SuiteData) -> Result<Box<dyn Suite>> {
    let domain = data.domain.clone();
    let rows = || data.files.get(id).map_or(&[][..], Vec::as_slice);
    Ok(match id {
        "held-out-loss" => Box::new(HeldOutLoss {
            domain,
            documents: data.documents.clone(),
        }),
        "exact-match" => Box::new(ExactMatch {
            domain,
            rows: data.rows.clone(),
        }),
        "gsm8k" => Box::new(Gsm8k {
            domain,
            questions: data.questions.clone(),
            form: data.form.clone(),
        }),
        "expression" => Box::new(ExpressionTests {
            domain,
            rows: data.rows.clone(),
        }),
        "routing" => Box::new(Routing {
            domain,
            rows: data.rows.clone(),
            labels: data.labels.clone(),
        }),
        "code-tests" => {
            let tasks = CodeTask::bundled()?.into_iter().map(CodeTask::program).collect();
            // its tasks are instructions, which plain text does not put
            let form = Form::chat(data.form.system_prompt.as_deref());
            programs("code-tests", domain, tasks, form)
        }
        "humaneval" => programs("humaneval", domain, layouts::humaneval(rows())?, data.form.clone()),
        "mbpp" => programs("mbpp", domain, layouts::mbpp(rows())?, data.form.clone()),
        "mmlu" => choices("mmlu", data, layouts::mmlu(rows())?, ChoiceStyle::Letters),
        "arc" => choices("arc", data, layouts::arc(rows())?, ChoiceStyle::Texts),
        "hellaswag" => choices("hellaswag", data, layouts::hellaswag(rows())?, ChoiceStyle::Endings),
        "choices" => choices("choices", data, layouts::choices(rows())?, ChoiceStyle::Texts),
        "custom" => Box::new(Custom {
            domain,
            rows: layouts::custom(rows())?,
            form: data.form.clone(),
        }),
        _ => return Err(EvaluateError::UnknownSuite { id: id.to_owned() }),
    })
}

fn programs(id: &'static str, domain: String, tasks: Vec<Program>, form: Form) -> Box<dyn Suite> {
    Box::new(Programs {
        id,
        domain,
        tasks,
        form,
        sandbox: Sandbox::detect(),
    })
}

fn choices(id: &'static str, data: &SuiteData, rows: Vec<ChoiceRow>, style: ChoiceStyle) -> Box<dyn Suite> {
    Box::new(MultipleChoice {
        id,
        domain: data.domain.clone(),
        rows,
        style,
        form: data.form.clone(),
    })
}

/// Measures one model with several suites, in order; `progress` is told the suite, items done and items in all.
///
/// # Errors
/// The first suite's that fails.
pub fn evaluate(
    subject: &mut dyn Subject,
    suites: &[Box<dyn Suite>],
    options: &RunOptions,
    progress: &dyn Fn(&dyn Suite, usize, usize),
) -> Result<Vec<Evaluation>> {
    let mut found = Vec::new();
    for suite in suites {
        found.extend(suite.run(subject, options, &|done, of| {
            progress(suite.as_ref(), done, of);
        })?);
    }
    Ok(found)
}

/// An outcome without a number, saying why.
fn unmeasured(suite: &dyn Suite, subject: &dyn Subject, unit: Unit, why: &str) -> Evaluation {
    let identity = Identity {
        suite: suite.id(),
        domain: suite.domain(),
        subject: subject.name(),
    };
    Evaluation {
        outcome: Outcome::unmeasured(&identity, unit, why),
        records: Vec::new(),
    }
}

/// A log record from its fields, in the order given.
fn record<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
