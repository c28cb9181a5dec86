//! Which points there are: the grid that a search begins with, and a point's neighbors.

use std::collections::BTreeMap;

use synapse_recipe::PipelinePlan;

use super::{Point, SearchOptions};
use crate::translate;

/// The usual trims and λ.
const TRIMS: [f64; 4] = [0.5, 0.7, 0.8, 0.9];
const LAMBDAS: [f64; 6] = [0.6, 0.8, 1.0, 1.3, 1.6, 2.0];
/// λ of a point's neighbors, as factors.
const LAMBDA_STEPS: [f64; 2] = [0.9, 1.1];

/// The points of one pipeline's search.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Space {
    own: Point,
    trims: Vec<f64>,
    lambdas: Vec<f64>,
    weights: Vec<f64>,
}

impl Space {
    /// The space that a pipeline's merge and the options span.
    pub(super) fn of(plan: &PipelinePlan, options: &SearchOptions) -> Result<Self, String> {
        let merge = &plan.merge;
        let method = translate::merge_method(merge.method);
        let known = method.parameters();
        if !known.contains(&"lambda") {
            return Err(format!("{method} has no lambda, so there is nothing to search for"));
        }
        for name in ["density", "lambda", "weight"] {
            if merge.parameters.contains_key(name) {
                return Err(format!(
                    "merge.parameters.{name} fixes what is searched for; say it as merge.trim, merge.lambda or merge.weights"
                ));
            }
        }
        let trims = if known.contains(&"density") {
            with_own(&options.trims, &TRIMS, merge.trim)
        } else if options.trims.is_empty() {
            vec![merge.trim]
        } else {
            return Err(format!("{method} does not trim, so there are no trims to try"));
        };
        if let Some(trim) = trims.iter().find(|trim| !(0.0..1.0).contains(*trim)) {
            return Err(format!("trim {trim} must be at least 0 and below 1"));
        }
        let lambdas = with_own(&options.lambdas, &LAMBDAS, merge.lambda);
        for (what, values) in [("lambda", &lambdas), ("weight factor", &options.weights)] {
            if let Some(value) = values.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
                return Err(format!("{what} {value} must be above 0"));
            }
        }
        if options.rows == 0 || options.finalists == 0 {
            return Err("a search needs at least one row and one finalist".into());
        }
        if plan.specialists.is_empty() {
            return Err(format!("pipeline `{}` names no recipes", plan.name));
        }
        let weight = |name: &String| merge.weights.get(name).copied().unwrap_or(1.0);
        let names = plan.specialists.iter().map(|specialist| &specialist.name);
        Ok(Self {
            own: Point {
                trim: merge.trim,
                lambda: merge.lambda,
                weights: names.map(|name| (name.clone(), weight(name))).collect(),
            },
            trims,
            lambdas,
            weights: options.weights.clone(),
        })
    }

    /// The pipeline's own merge.
    pub(super) fn own(&self) -> &Point {
        &self.own
    }

    /// Every trim with every λ, under the pipeline's own weights; its own merge comes first.
    pub(super) fn grid(&self) -> Vec<Point> {
        let mut points = vec![self.own.clone()];
        for &trim in &self.trims {
            for &lambda in &self.lambdas {
                let point = Point {
                    trim,
                    lambda,
                    ..self.own.clone()
                };
                if point != self.own {
                    points.push(point);
                }
            }
        }
        points
    }

    /// One weight, or λ, more or less. Weights are shares: they all times a number is the same merge, so with a single
    /// specialist there is nothing to weigh.
    pub(super) fn neighbors(&self, point: &Point) -> Vec<Point> {
        let mut found: Vec<Point> = LAMBDA_STEPS
            .iter()
            .map(|step| Point {
                lambda: short(point.lambda * step),
                ..point.clone()
            })
            .collect();
        if point.weights.len() > 1 {
            for (name, weight) in &point.weights {
                found.extend(self.weights.iter().map(|step| {
                    let mut weights: BTreeMap<_, _> = point.weights.clone();
                    weights.insert(name.clone(), short(weight * step));
                    Point {
                        weights,
                        ..point.clone()
                    }
                }));
            }
        }
        found.retain(|neighbor| neighbor != point);
        found
    }
}

/// The values asked for, or the usual ones, and the pipeline's own; rising.
fn with_own(asked: &[f64], usual: &[f64], own: f64) -> Vec<f64> {
    let mut values = if asked.is_empty() { usual } else { asked }.to_vec();
    values.push(own);
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// Three decimals, so that what is chosen can be written and read.
fn short(value: f64) -> f64 {
    ((value * 1000.0).round() / 1000.0).max(0.001)
}
