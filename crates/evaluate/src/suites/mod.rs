//! The suites: each asks one model one kind of question and returns outcomes with a log of every item.
//!
//! [`build`] makes a suite from its id and a domain's data; [`evaluate`] runs several over one model. A new suite is a
//! file here that implements [`Suite`], an id in `ids.rs` and an arm in `build.rs`.

mod build;
mod code;
mod code_tests;
mod custom;
mod exact_match;
mod expression;
mod gsm8k;
mod held_out_loss;
pub(crate) mod ids;
mod math;
mod multiple_choice;
mod prompt;
mod routing;
mod suite;

pub use build::{SuiteData, build};
pub use code::CodeSuite;
pub use code_tests::CodeTask;
pub use custom::CustomSuite;
pub use exact_match::ExactMatchSuite;
pub use expression::ExpressionSuite;
pub use gsm8k::{EXAMPLES, Gsm8kSuite};
pub use held_out_loss::HeldOutLossSuite;
pub use ids::{FILE_SUITES, SAMPLED_SUITES, SUITE_IDS};
pub use multiple_choice::{ChoiceStyle, MultipleChoiceSuite};
pub use prompt::{PromptFormat, PromptStyle};
pub use routing::RoutingSuite;
pub use suite::{EvalOptions, Suite, SuiteProgress, evaluate};
