//! Task suites, scoring, the sandbox for generated code, comparison statistics, the gate and the run report.
//!
//! Base, specialists and merge are measured through one trait, [`Subject`], by the same suites on the same rows, so
//! that a difference between two numbers is a difference between two models. Nothing here knows how a model is
//! loaded, trained or merged.

mod comparison;
mod error;
mod gate;
mod journal;
pub mod layouts;
mod number;
mod outcome;
pub mod python;
pub mod report;
mod row;
mod sandbox;
mod statistics;
mod subject;
pub mod suites;
mod table;
mod versus;

pub use comparison::{Comparison, GainKept, Verdict};
pub use error::{EvaluateError, Result};
pub use gate::{GateAction, GateDecision, GateRule, Regression};
pub use journal::{Journal, Journaled};
pub use layouts::{CustomRow, Preamble, Program, Scorer, SourceRow};
pub use number::{AnswerRule, Number, final_answer, reference_answer};
pub use outcome::{Evaluation, Item, Outcome, Unit};
pub use row::{Answer, CallTest, ChoiceRow, Document, QuestionAnswer, Row, read_jsonl, read_rows};
pub use sandbox::{CodeVerdict, Job, Limits, Sandbox};
pub use statistics::{
    Interval, bootstrap, bootstrap_mean, mcnemar, paired_bootstrap, pass_at_k, weighted_mean, wilson,
};
pub use subject::{Choices, Each, Generated, Generation, PackedLoss, RowLoss, Subject};
pub use suites::{
    FILE_SUITES, Form, Progress, Prompting, RunOptions, SAMPLED_SUITES, SUITE_IDS, Suite, SuiteData, build, evaluate,
};
pub use table::{Cell, ComparedSubject, ComparisonTable, Role, TableColumn};
pub use versus::{VERSUS_LEGEND, Versus, VersusRow};
