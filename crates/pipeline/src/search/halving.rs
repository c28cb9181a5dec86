//! Which points are tried on how many rows (successive halving: Jamieson & Talwalkar 2016, arXiv 1502.07943), with a few
//! steps from point to neighbor on the first, cheapest rows.

use std::ops::Range;
use std::time::Instant;

use synapse_recipe::{PipelinePlan, Stage};

use super::{Point, SearchOptions, Trial, evaluator::MergeEvaluator, space::Space, stopped, trial::rank};
use crate::{PipelineError, ProgressUnit, Run};

/// Factor by which the rows grow with each step.
const MORE_ROWS: usize = 4;
/// Factor by which the points shrink with each step.
const FEWER_POINTS: usize = 3;
/// Points whose neighbors are tried in a round.
const PARENTS: usize = 2;

/// Successive halving over a search space.
pub(super) struct Halving<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) plan: &'a PipelinePlan,
    pub(super) space: &'a Space,
    pub(super) options: &'a SearchOptions,
}

/// The state of the search after all rows.
pub(super) struct Standing {
    /// Points that were tried on any rows.
    pub(super) tried: usize,
    /// Rows of all domains that the last saw.
    pub(super) rows: usize,
    /// Those that saw them, best first.
    pub(super) last: Vec<Trial>,
    /// The pipeline's own merge.
    pub(super) own: Trial,
    /// How many answer the suites.
    pub(super) finalists: usize,
}

/// The rows of every step, as pieces that add up: the last step sees all of them.
fn pieces(first: usize, most: usize) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let (mut start, mut end) = (0, first);
    while end * MORE_ROWS / 2 < most {
        found.push(start..end);
        (start, end) = (end, end * MORE_ROWS);
    }
    found.push(start..most.max(start + 1));
    found
}

impl Halving<'_> {
    /// Tries points until those that are left have seen all rows.
    pub(super) fn run(&self, evaluator: &mut MergeEvaluator<'_>) -> Result<Standing, PipelineError> {
        let pieces = pieces(self.options.rows, evaluator.most_rows());
        evaluator.refer(&pieces)?;
        let mut points = self.space.grid();
        let mut trials = self.step(evaluator, &points, &pieces[..1])?;
        for _ in 0..self.options.rounds {
            let before = points.len();
            for parent in trials.iter().take(PARENTS) {
                for neighbor in self.space.neighbors(&parent.point) {
                    if !points.contains(&neighbor) {
                        points.push(neighbor);
                    }
                }
            }
            if points.len() == before {
                break;
            }
            trials.extend(self.step(evaluator, &points[before..], &pieces[..1])?);
            rank(&mut trials);
        }
        for step in 2..=pieces.len() {
            let kept = self.survivors(&trials);
            trials = self.step(evaluator, &kept, &pieces[..step])?;
        }
        let own = trials.iter().find(|trial| trial.point == *self.space.own());
        let own = own.cloned().ok_or_else(|| PipelineError::Unusable {
            what: "the search has dropped the pipeline's own merge".into(),
            hint: "this is a bug; please report it".into(),
        })?;
        Ok(Standing {
            tried: points.len(),
            rows: evaluator.all_rows(evaluator.most_rows()),
            last: trials,
            own,
            finalists: self.options.finalists,
        })
    }

    /// Tries points on the same rows; best first.
    fn step(
        &self,
        evaluator: &mut MergeEvaluator<'_>,
        points: &[Point],
        pieces: &[Range<usize>],
    ) -> Result<Vec<Trial>, PipelineError> {
        let rows = evaluator.all_rows(pieces.last().map_or(0, |last| last.end));
        let what = format!("{}: merges tried on {rows} rows", self.plan.name);
        let start = Instant::now();
        let mut trials = Vec::with_capacity(points.len());
        for point in points {
            if self.run.stops() {
                return Err(stopped(self.plan));
            }
            trials.push(evaluator.trial(point, pieces)?);
            let done = trials.len() as u64;
            self.run
                .reporter
                .progress(&what, ProgressUnit::Items, done, Some(points.len() as u64));
        }
        rank(&mut trials);
        if let Some(best) = trials.first() {
            let summary = format!(
                "{} merges on {rows} rows; best: {}, {:.1} % of the gains kept",
                trials.len(),
                best.point,
                100.0 * best.mean_gain_kept
            );
            let seconds = start.elapsed().as_secs_f64();
            self.run
                .reporter
                .finished(&self.plan.name, Stage::Merge, seconds, &summary);
        }
        Ok(trials)
    }

    /// The points of the next step: the better third, the pipeline's own merge, and the best one with its trim.
    fn survivors(&self, trials: &[Trial]) -> Vec<Point> {
        let own = self.space.own();
        let count = trials.len().div_ceil(FEWER_POINTS).max(self.options.finalists);
        let mut kept: Vec<Point> = trials.iter().take(count).map(|trial| trial.point.clone()).collect();
        let of_own_trim = trials.iter().find(|trial| trial.point.trim == own.trim);
        for point in of_own_trim.map(|trial| &trial.point).into_iter().chain([own]) {
            if !kept.contains(point) {
                kept.push(point.clone());
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_all_rows() {
        let ends = |first, most| -> Vec<(usize, usize)> {
            let pieces = pieces(first, most).into_iter();
            pieces.map(|piece| (piece.start, piece.end)).collect()
        };
        assert_eq!(ends(8, 200), [(0, 8), (8, 32), (32, 200)]);
        assert_eq!(ends(8, 100), [(0, 8), (8, 32), (32, 100)]);
        assert_eq!(ends(8, 8), [(0, 8)]);
        assert_eq!(ends(8, 3), [(0, 3)]);
        assert_eq!(ends(4, 9), [(0, 4), (4, 9)]);
    }
}
