//! The search for a merge: trims, λ and the specialists' weights are tried on held-out loss, and the best few on all
//! suites of the pipeline, under its gate.
//!
//! 1. Points of a grid of trims and λ are tried on a few held-out rows of every domain, and then the neighbors of the
//!    best: one specialist's weight more or less, λ a little more or less.
//! 2. The better third goes on to four times the rows, and so on to all of them ([`halving`]). The pipeline's own merge
//!    and the best one with its trim always go on, so that what λ and weights do by themselves is known.
//! 3. The best few answer the suites that the pipeline measures, as its merge would; the best of those that pass the
//!    gate is chosen.
//!
//! Merges are made in memory and never written. The gate uses the same rows as the search, so the chosen merge looks a
//! little better than it is; evaluate it on rows of your own to see by how much. Everything follows from the inputs and a
//! seed. Every loss is recorded in a journal, from which an interrupted search resumes.
//!
//! What this is not: merging (the merge crate) or the suites (the evaluate crate).

mod evaluator;
mod files;
mod finals;
mod halving;
mod journal;
mod space;
mod trial;

use std::path::PathBuf;

use serde::Serialize;
use synapse_recipe::{PipelinePlan, Stage};

use crate::{
    PipelineError, Run, page, run_dir::RunDir, stages::evaluate_specialists::evaluate_specialists,
    trained_pipeline::TrainedPipeline,
};
use evaluator::MergeEvaluator;
pub use finals::{Finalist, Score};
use halving::Halving;
use space::Space;
pub use trial::{Point, Trial};

/// What a search tries.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchOptions {
    /// Trims of the grid, in [0, 1); the pipeline's own is always among them. Empty takes the usual ones.
    pub trims: Vec<f64>,
    /// Factors on the merged change; the pipeline's own is always among them. Empty takes the usual ones.
    pub lambdas: Vec<f64>,
    /// Factors by which one specialist's weight is scaled to make a neighbor.
    pub weights: Vec<f64>,
    /// How often the neighbors of the best are tried on the first rows.
    pub rounds: usize,
    /// Held-out rows of every domain that the first trials see.
    pub rows: usize,
    /// How many of the best answer the suites.
    pub finalists: usize,
    /// Which rows come first.
    pub seed: u64,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self {
            trims: Vec::new(),
            lambdas: Vec::new(),
            weights: vec![0.7, 1.4],
            rounds: 2,
            rows: 8,
            finalists: 3,
            seed: 0,
        }
    }
}

impl SearchOptions {
    /// Checks that these options make sense for a pipeline.
    ///
    /// # Errors
    /// The first problem, as a message.
    pub fn check(&self, plan: &PipelinePlan) -> Result<(), String> {
        Space::of(plan, self).map(|_| ())
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SearchOutcome {
    /// The pipeline's name.
    pub pipeline: String,
    /// Merges that were tried.
    pub tried: usize,
    /// Held-out rows that the last of them saw, of all domains.
    pub rows: usize,
    /// The pipeline's own merge on those rows.
    pub own: Trial,
    /// The best with the pipeline's own trim: what λ and weights do by themselves.
    pub best_at_own_trim: Trial,
    /// Those that no other beats in both the mean share of the gains kept and the worst domain's, by rising mean.
    pub front: Vec<Trial>,
    /// The best few, best first, with the gate's word and the pipeline's suites.
    pub finalists: Vec<Finalist>,
    /// Which of the finalists was chosen.
    pub chosen: usize,
    /// The pipeline's command line with the chosen numbers.
    pub command: String,
    /// The chosen merge as a `merge:` section.
    pub yaml: PathBuf,
    /// The plot of those that saw all rows.
    pub plot: PathBuf,
}

/// Searches for a pipeline's merge. What is not trained yet is trained first.
///
/// # Errors
/// Whatever a stage refuses; [`PipelineError::Refused`] when no finalist passes the gate and the pipeline's action is to
/// refuse; what was tried stays in the journal.
pub fn search(run: &Run<'_>, plan: &PipelinePlan, options: &SearchOptions) -> Result<SearchOutcome, PipelineError> {
    let space = Space::of(plan, options).map_err(|what| PipelineError::Unusable {
        what,
        hint: "change the option or the pipeline; nothing was trained or merged".into(),
    })?;
    let trained = TrainedPipeline::train(run, plan)?;
    let reference = evaluate_specialists(&trained)?;
    let mut evaluator = MergeEvaluator::open(&trained, options)?;
    let standing = Halving {
        run,
        plan,
        space: &space,
        options,
    }
    .run(&mut evaluator)?;
    let finalists = finals::measure(&trained, &mut evaluator, &standing, &reference)?;
    let folder = RunDir::new(&plan.run_dir).search();
    let outcome = files::write(&folder, plan, standing, finalists)?;
    // The run's page shows the front beside what was published.
    if RunDir::new(&plan.run_dir).plan().is_file() {
        page::report(&plan.run_dir)?;
    }
    Ok(outcome)
}

/// A search that the user stopped.
fn stopped(plan: &PipelinePlan) -> PipelineError {
    PipelineError::Stopped {
        name: format!("search for {}", plan.name),
        stage: Stage::Merge,
    }
}
