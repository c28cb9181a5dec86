//! The suites: each asks one model one kind of question and returns outcomes with a log of every item.

mod choices;
mod code_tests;
mod exact_match;
mod expression;
mod extract;
mod gsm8k;
mod held_out_loss;
mod math;
mod routing;

use serde_json::{Map, Value};
use synapse_chat::Message;

pub use choices::{ChoiceStyle, MultipleChoice};
pub use code_tests::{CodeTask, CodeTests};
pub use exact_match::ExactMatch;
pub use expression::ExpressionTests;
pub use gsm8k::{Gsm8k, Prompting};
pub use held_out_loss::HeldOutLoss;
pub use routing::Routing;

use crate::outcome::Evaluation;
use crate::row::{ChoiceRow, Document, QuestionAnswer, Row};
use crate::sandbox::Sandbox;
use crate::subject::{Generated, Generation, Subject};
use crate::{EvaluateError, Result};

/// Every suite a recipe may name.
pub const SUITE_IDS: [&str; 7] = [
    "held-out-loss",
    "exact-match",
    "gsm8k",
    "code-tests",
    "expression",
    "routing",
    "choices",
];

/// Prompts handed to a model at once: enough for any batch, few enough for progress to move.
const CHUNK: usize = 64;

/// How far to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    /// Measure the first this many items of each task only; held-out loss always takes every document.
    pub limit: Option<usize>,
    /// Longest answer, in tokens.
    pub max_new_tokens: usize,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            limit: None,
            max_new_tokens: 256,
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
    /// Multiple-choice questions.
    pub choices: Vec<ChoiceRow>,
    /// Labels of router.json.
    pub labels: Vec<String>,
    /// System turn for suites whose rows have none (gsm8k, code-tests, choices).
    pub system_prompt: Option<String>,
}

/// The suite with this id over `data`. Code tests run in the sandbox that this machine allows.
///
/// # Errors
/// [`EvaluateError::UnknownSuite`]; [`EvaluateError::Row`] never in practice, as bundled tasks are tested.
pub fn build(id: &str, data: &SuiteData) -> Result<Box<dyn Suite>> {
    let domain = data.domain.clone();
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
            prompting: Prompting::Chat {
                system_prompt: data.system_prompt.clone(),
            },
        }),
        "code-tests" => Box::new(CodeTests {
            domain,
            tasks: CodeTask::bundled()?,
            system_prompt: data.system_prompt.clone(),
            sandbox: Sandbox::detect(),
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
        "choices" => Box::new(MultipleChoice {
            domain,
            rows: data.choices.clone(),
            style: ChoiceStyle::Texts,
            system_prompt: data.system_prompt.clone(),
        }),
        _ => return Err(EvaluateError::UnknownSuite { id: id.to_owned() }),
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

/// A prompt with the id of its item.
struct Prompt {
    id: String,
    tokens: Vec<u32>,
}

impl Prompt {
    /// A conversation through the model's template, up to where the model answers.
    fn chat(subject: &dyn Subject, id: &str, messages: &[Message]) -> Result<Self> {
        let tokens = subject.chat().encode_prompt(messages);
        let tokens = tokens.map_err(|source| EvaluateError::Chat {
            item: id.to_owned(),
            source,
        })?;
        Ok(Self {
            id: id.to_owned(),
            tokens,
        })
    }
}

/// Greedy answers to every prompt. A prompt that leaves no room for an answer is refused, never cut.
fn generate(
    suite: &'static str,
    subject: &mut dyn Subject,
    prompts: Vec<Prompt>,
    generation: &Generation,
    progress: Progress<'_>,
) -> Result<Vec<Generated>> {
    if let Some(limit) = subject.max_positions()
        && let Some(prompt) = prompts.iter().find(|prompt| prompt.tokens.len() >= limit)
    {
        return Err(EvaluateError::TooLong {
            suite,
            item: prompt.id.clone(),
            tokens: prompt.tokens.len() + 1,
            limit,
        });
    }
    let of = prompts.len();
    let prompts: Vec<Vec<u32>> = prompts.into_iter().map(|prompt| prompt.tokens).collect();
    let mut answers = Vec::with_capacity(of);
    for chunk in prompts.chunks(CHUNK) {
        let generated = subject.generate(chunk, generation)?;
        check_count(subject, "prompts", chunk.len(), generated.len())?;
        answers.extend(generated);
        progress(answers.len(), of);
    }
    Ok(answers)
}

fn check_count(subject: &dyn Subject, what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(EvaluateError::WrongCount {
        subject: subject.name().to_owned(),
        what,
        expected,
        found,
    })
}

/// The optional system turn and one question.
fn conversation(system_prompt: Option<&str>, question: &str) -> Vec<Message> {
    let system = system_prompt.map(|text| Message::new("system", text));
    system.into_iter().chain([Message::new("user", question)]).collect()
}

/// A log record from its fields, in the order given.
fn record<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The last user turn: what a reader of the log recognises an item by.
fn last_question(messages: &[Message]) -> &str {
    messages
        .iter()
        .rev()
        .find(|message| message.role == "user")
        .map_or("", |message| &message.content)
}

/// What to add to an outcome when answers were cut off.
fn unfinished_note(answers: &[Generated], max_new_tokens: usize) -> Option<String> {
    let unfinished = answers.iter().filter(|answer| !answer.finished).count();
    (unfinished > 0).then(|| {
        format!(
            "{unfinished} of {} answers cut off at {max_new_tokens} tokens",
            answers.len()
        )
    })
}
