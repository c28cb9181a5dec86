//! Measures language models: benchmark suites, scoring, paired statistics and the run report.
//!
//! A base model, its specialists and their merge are measured by the same suites on the same rows, through one
//! trait, [`model::EvalModel`]. A difference between two numbers is therefore a difference between two models. The
//! crate does not know how a model is loaded, trained or merged.
//!
//! | module | what it has |
//! |---|---|
//! | [`model`] | the trait that a model under test implements, and its request and result types |
//! | [`suites`] | the suites: held-out loss, exact match, GSM8K, HumanEval, MBPP, MMLU, ARC, HellaSwag, routing, custom |
//! | [`datasets`] | adapters from the datasets' columns to the suites' rows |
//! | [`rows`] | the rows themselves, and reading them from JSONL |
//! | [`outcome`] | what a suite returns: a number, its interval and every item |
//! | [`statistics`] | Wilson and bootstrap intervals, McNemar's test, pass@k |
//! | [`paired`], [`pairwise`] | two models, or several, compared on the same items |
//! | [`table`], [`gate`] | base, specialists and merge in one table, and the decision whether the merge is published |
//! | [`report`] | report.html and its plots |
//! | [`journal`] | answers kept in a file, so that an interrupted evaluation resumes |
//! | [`sandbox`], [`python`] | running generated code: in a `python3` process, or a subset of Python in this one |
//! | [`number`] | finding the final number of a worked answer |
//!
//! What this is not: a model runner. Generation, batching and devices belong to the implementation of the trait.
//!
//! # Example
//!
//! A model only has to score, generate and report losses. This one prefers the shortest continuation:
//!
//! ```
//! use std::path::Path;
//!
//! use synapse_evaluate::model::{
//!     DocumentLoss, EvalModel, GenerationOptions, LabeledDocument, MultipleChoiceItem, OnGenerated,
//! };
//! use synapse_evaluate::paired::{PairedComparison, Verdict};
//! use synapse_evaluate::rows::{CorrectChoice, MultipleChoiceRow};
//! use synapse_evaluate::suites::{ChoiceStyle, EvalOptions, MultipleChoiceSuite, PromptFormat, evaluate};
//! use synapse_evaluate::{EvaluateError, Result};
//! use synapse_tokenizer::ChatTokenizer;
//!
//! struct Shortest {
//!     name: &'static str,
//!     /// 1 prefers short continuations, −1 long ones.
//!     preference: f64,
//!     chat: ChatTokenizer,
//! }
//!
//! impl EvalModel for Shortest {
//!     fn name(&self) -> &str {
//!         self.name
//!     }
//!     fn chat(&self) -> &ChatTokenizer {
//!         &self.chat
//!     }
//!     fn losses(&mut self, _: &[LabeledDocument<'_>]) -> Result<Vec<DocumentLoss>> {
//!         Err(EvaluateError::model(self.name, "measuring the loss", "this model has no loss"))
//!     }
//!     fn generate(&mut self, _: &[Vec<u32>], _: &GenerationOptions, _: &mut OnGenerated<'_>) -> Result<()> {
//!         Err(EvaluateError::model(self.name, "generating", "this model only scores"))
//!     }
//!     fn score(&mut self, items: &[MultipleChoiceItem]) -> Result<Vec<Vec<f64>>> {
//!         let score = |tokens: &Vec<u32>| -self.preference * tokens.len() as f64;
//!         Ok(items.iter().map(|item| item.continuations.iter().map(score).collect()).collect())
//!     }
//! }
//!
//! let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/chat"));
//! let model = |name, preference| ChatTokenizer::open(folder).map(|chat| Shortest { name, preference, chat });
//!
//! let row = |index: usize| MultipleChoiceRow {
//!     id: Some(format!("question-{index}")),
//!     group: None,
//!     question: format!("What is {index} + 1?"),
//!     choices: vec![(index + 1).to_string(), "I would have to think about that".into()],
//!     answer: CorrectChoice::Index(0),
//! };
//! let suite = MultipleChoiceSuite {
//!     id: "choices",
//!     domain: "math".into(),
//!     rows: (0..20).map(row).collect(),
//!     style: ChoiceStyle::Texts,
//!     prompt_format: PromptFormat::chat(None),
//! };
//! let suites = [Box::new(suite) as Box<_>];
//! let measure = |mut model: Shortest| evaluate(&mut model, &suites, &EvalOptions::default(), &|_, _, _| ());
//!
//! let long = measure(model("long", -1.0)?)?.remove(0).outcome;
//! let short = measure(model("short", 1.0)?)?.remove(0).outcome;
//! assert_eq!((long.value, short.value), (Some(0.0), Some(1.0)));
//!
//! let comparison = PairedComparison::between(&long, &short)?;
//! assert_eq!(comparison.verdict, Verdict::Better);
//! assert_eq!(comparison.discordant, Some([0, 20])); // right only in `long`, only in `short`
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod datasets;
mod error;
pub mod gate;
pub mod journal;
pub mod model;
pub mod number;
pub mod outcome;
pub mod paired;
pub mod pairwise;
pub mod python;
mod python_source;
pub mod report;
pub mod rows;
pub mod sandbox;
pub mod statistics;
pub mod suites;
pub mod table;

pub use error::{EvaluateError, Result};
pub use model::EvalModel;
pub use outcome::{Evaluation, Outcome};
pub use suites::{EvalOptions, Suite, evaluate};
