//! The parameters of one tensor's merge, resolved from the request: weights, densities, votes and divisors.

use crate::combine::{CombineRule, Divisor, Onto, Vote};
use crate::geometry::{SphereMethod, SphereOptions};
use crate::options::{Counting, DivideBy, Rescale, TieBreak, TopKSelection};
use crate::plan::{PlannedInput, TensorPlan};
use crate::random::Stream;
use crate::select::TopKMask;
use crate::sparsify::{Density, Sparsification};
use crate::{MergeRequest, Method, Trim};

/// γ, ε and the rest of mergekit's defaults.
const GAMMA: f64 = 0.01;
const EPSILON: f64 = 0.15;
const EPS: f64 = 1e-8;
const MAX_ITER: f64 = 10.0;
const TOL: f64 = 1e-5;

/// One tensor and the request it is merged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorParameters<'a> {
    pub(crate) request: &'a MergeRequest,
    pub(crate) plan: &'a TensorPlan,
}

impl TensorParameters<'_> {
    fn number(&self, name: &str, default: f64) -> f64 {
        self.plan
            .settings(self.request, |levels| levels.number(name))
            .unwrap_or(default)
    }

    fn flag(&self, name: &str, default: bool) -> bool {
        self.plan
            .settings(self.request, |levels| levels.flag(name))
            .unwrap_or(default)
    }

    fn input_number(&self, input: &PlannedInput, name: &str) -> Option<f64> {
        self.plan
            .input_settings(self.request, input, |levels| levels.number(name))
    }

    /// wᵢ.
    pub(crate) fn weight(&self, input: &PlannedInput) -> f64 {
        let plain = || self.request.inputs().nth(input.input).map_or(1.0, |input| input.weight);
        self.input_number(input, "weight").unwrap_or_else(plain)
    }

    /// `t`, for the methods that need it.
    pub(crate) fn t(&self) -> f64 {
        self.number("t", 0.0)
    }

    /// `scale`, for passthrough.
    pub(crate) fn scale(&self, input: &PlannedInput) -> Option<f64> {
        self.input_number(input, "scale")
    }

    /// `select_topk`, for sce.
    pub(crate) fn select_topk(&self) -> f64 {
        self.number("select_topk", 1.0)
    }

    /// The share of an input's entries that is kept.
    pub(crate) fn density(&self, input: &PlannedInput) -> Density {
        let name = self
            .request
            .inputs()
            .nth(input.input)
            .map_or("", |input| input.name.as_str());
        let trim = match self.input_number(input, "density") {
            None => self.request.trim_of(name),
            Some(share) if share >= 1.0 => Trim::NONE,
            Some(share) => match Trim::from_density(&share.to_string()) {
                Ok(trim) => trim,
                // A density of zero keeps nothing, which no trim expresses.
                Err(_) => return Density::Float { share, least: 0 },
            },
        };
        let share = trim.density().parse().unwrap_or(1.0);
        match self.request.ties.counting {
            _ if trim == Trim::NONE => Density::Exact(trim),
            Counting::Decimal => Density::Exact(trim),
            Counting::Binary => Density::Float {
                share,
                least: usize::from(!self.request.ties.factors),
            },
            Counting::OneMore => Density::OneMore(share),
            Counting::Quantile => Density::Quantile(share),
        }
    }

    /// How kept entries are rescaled: the file's setting, else the request's.
    pub(crate) fn rescale(&self) -> Rescale {
        match self.plan.settings(self.request, |levels| levels.flag("rescale")) {
            None => self.request.rescaling(),
            Some(false) => Rescale::None,
            Some(true) => match self.request.rescaling() {
                Rescale::None => Rescale::Norm,
                other => other,
            },
        }
    }

    /// How one input is sparsified.
    pub(crate) fn sparsification(&self, input: &PlannedInput, threshold: Option<TopKMask>) -> Sparsification {
        let name = self
            .request
            .inputs()
            .nth(input.input)
            .map_or("", |input| input.name.as_str());
        Sparsification {
            density: self.density(input),
            gamma: self.input_number(input, "gamma").unwrap_or(GAMMA),
            epsilon: self.input_number(input, "epsilon").unwrap_or(EPSILON),
            rescale: self.rescale(),
            stream: Stream::new(self.request.seed, "sparsify", name, &self.plan.name),
            with_ties: self.request.ties.selection == TopKSelection::Threshold,
            threshold,
        }
    }

    /// How changes are combined into one. `majority` is the sign that wins most entries of the model, `on_weights` says that inputs
    /// replace the base, `combined` that the changes are one already.
    pub(crate) fn combine_rule(&self, majority: f32, on_weights: bool, combined: bool) -> CombineRule {
        let request = self.request;
        let method = request.method;
        let normalize = self.flag("normalize", request.normalize) && !combined;
        let weights = self.plan.inputs.iter().map(|input| self.weight(input) as f32);
        let sum: f32 = weights.sum();
        let election = (method.elects_signs() && !combined).then_some(Vote {
            sign: request.ties.sign,
            tie_sign: match request.ties.tie_break {
                TieBreak::Drop => 0.0,
                TieBreak::Positive => 1.0,
                TieBreak::Majority => majority,
            },
            weighted: request.ties.weighted_vote,
            vote_in_f32: request.ties.vote_in_f32,
        });
        let divisor = match request.ties.divide_by {
            _ if !normalize => Divisor::One,
            DivideBy::Weights if election.is_some() => Divisor::Agreeing,
            DivideBy::Count if election.is_some() => Divisor::Count,
            _ if method != Method::Linear && sum.abs() < 1e-8 => Divisor::One,
            _ => Divisor::Fixed(sum),
        };
        // With adapters, linear is Σ wᵢ(θ + δᵢ): the base appears as often as there is weight.
        let onto = match method {
            Method::Linear if on_weights => Onto::Nothing,
            Method::Linear if !normalize && !combined => Onto::Scaled(sum),
            _ => Onto::Base,
        };
        CombineRule {
            election,
            divisor,
            lambda: self.number("lambda", request.lambda) as f32,
            onto,
        }
    }

    /// The options of a method on spheres. `contributing` are the inputs that have the tensor.
    pub(crate) fn sphere_options(&self, method: SphereMethod, contributing: &[&PlannedInput]) -> SphereOptions {
        SphereOptions {
            method,
            weights: contributing.iter().map(|input| self.weight(input)).collect(),
            uses_base: self.request.uses_base,
            t: self.t(),
            flatten: self.flag("nuslerp_flatten", true),
            row_wise: self.flag("nuslerp_row_wise", false),
            normalize_weights: self.flag("normalize_weights", true),
            eps: self.number("eps", EPS),
            max_iter: self.number("max_iter", MAX_ITER) as usize,
            tol: self.number("tol", TOL),
            filter_wise: self.flag("filter_wise", false),
        }
    }
}
