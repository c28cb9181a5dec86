//! Runs recipes and pipelines: the stages, their order, and what each leaves for the next.
//!
//! A recipe runs fetch, prepare, train and evaluate. A pipeline runs its recipes up to training, then evaluate, merge,
//! gate and export. Every stage writes artifacts and a record with a fingerprint of its inputs; a stage runs again only
//! if they have changed.
//!
//! What this is not: it computes nothing itself (the other crates do) and prints nothing (progress goes to a
//! [`Reporter`]).
//!
//! # Map
//! | Subject | Items |
//! |---|---|
//! | running | [`Run`], [`run_recipe`], [`run_pipeline`], [`RunOptions`] |
//! | one stage at a time | [`fetch_suite`], [`check_data_limits`], [`check_row_lengths`], [`merge_request`], [`missing_adapters`] |
//! | measuring a model | [`LoadedModel`], [`ModelUnderTest`], [`suite_data`], [`add_questions`] |
//! | searching for a merge | [`search`], [`SearchOptions`], [`SearchOutcome`] |
//! | showing a run | [`Reporter`], [`report`], [`outcomes`], [`table`], [`Estimate`], [`row_length_notes`] |

mod comparison;
mod document_losses;
mod domain;
mod error;
mod estimate;
mod last_run;
mod loaded_model;
mod merge_request;
mod page;
mod record;
mod reporter;
mod row_lengths;
mod run;
mod run_dir;
mod run_pipeline;
mod run_recipe;
mod search;
mod stages;
mod suite_data;
mod trace;
mod trained_pipeline;
mod translate;

pub use comparison::table;
pub use error::PipelineError;
pub use estimate::{Estimate, MemoryEstimate, RecipeEstimate, TimeEstimate};
pub use loaded_model::{LoadedModel, ModelUnderTest};
pub use merge_request::{merge_request, missing_adapters};
pub use page::report;
pub use record::outcomes;
pub use reporter::{NullReporter, ProgressUnit, Reporter};
pub use row_lengths::{check_row_lengths, row_length_notes};
pub use run::{Run, RunOptions};
pub use run_pipeline::{PipelineOutcome, run_pipeline};
pub use run_recipe::{RecipeOutcome, run_recipe};
pub use search::{Finalist, Point, Score, SearchOptions, SearchOutcome, Trial, search};
pub use stages::fetch::{Downloads, Fetched, FetchedBase, FetchedSource, fetch_suite};
pub use stages::prepare::check_data_limits;
pub use stages::train::TrainingSummary;
pub use suite_data::{add_questions, suite_data};
pub use trace::{TracedLayer, TracedText, TracedToken};
