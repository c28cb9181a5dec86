//! The one crate that knows the order of stages.
//!
//! A recipe runs fetch → prepare → train → evaluate; a pipeline runs its recipes, then merge →
//! evaluate → gate → export. A search looks for the numbers of a pipeline's merge. Each stage reads artifacts, writes one, and leaves a record with a
//! fingerprint of all it depends on, so running again repeats only what changed. What this crate is
//! not: it computes nothing itself and prints nothing; the terminal is behind [`Reporter`].

mod comparison;
mod domain;
mod error;
mod fetch;
mod forecast;
mod lab;
mod merge_request;
mod merging;
mod page;
mod publish;
mod record;
mod reporter;
mod run;
mod search;
mod specialist;
mod trace;
mod translate;

pub use comparison::table;
pub use domain::{add_questions, suite_data};
pub use error::PipelineError;
pub use fetch::{Downloads, Fetched, FetchedBase, FetchedSource, fetch_suite};
pub use forecast::Forecast;
pub use lab::{Lab, LabSubject};
pub use merge_request::{merge_request, missing_adapters};
pub use merging::{PipelineOutcome, run_pipeline};
pub use page::report;
pub use record::outcomes;
pub use reporter::{Reporter, Silent};
pub use run::{Run, RunOptions};
pub use search::{Finalist, Point, Score, SearchOptions, SearchOutcome, Trial, search};
pub use specialist::{SpecialistOutcome, keep_limits, run_specialist};
pub use trace::{TracedLayer, TracedText, TracedToken};
