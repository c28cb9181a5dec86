//! A row of logits as a probability distribution: the most likely token, the truncated sample, log-probabilities.

use std::cmp::Ordering;

use crate::{SamplingOptions, TokenLogprob};

/// The first guess of how many tokens `top_p` keeps; quadrupled until it suffices.
const NUCLEUS_GUESS: usize = 128;

/// A token that may be sampled. Ordered by logit, then by lowest id.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    logit: f32,
    id: u32,
}

fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// The lowest id among the largest logits.
pub(crate) fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

/// Temperature, then top-k, then top-p, then min-p, then the sample.
pub(crate) fn sample(options: &SamplingOptions, logits: &[f32], uniform: f64) -> u32 {
    let mut candidates: Vec<Candidate> = logits
        .iter()
        .zip(0..)
        .map(|(&logit, id)| Candidate { logit, id })
        .collect();
    let largest = f64::from(logits[most_likely(logits) as usize]);
    let temperature = f64::from(options.temperature);
    // Relative to the most likely token's weight, which is 1.
    let weight = |candidate: &Candidate| ((f64::from(candidate.logit) - largest) / temperature).exp();

    if options.top_k > 0 {
        keep_best(&mut candidates, options.top_k);
    }
    if options.top_p < 1.0 {
        let mass: f64 = candidates.iter().map(weight).sum();
        keep_nucleus(&mut candidates, f64::from(options.top_p) * mass, weight);
    }
    if options.min_p > 0.0 {
        candidates.retain(|candidate| weight(candidate) >= f64::from(options.min_p));
    }
    let mass: f64 = candidates.iter().map(weight).sum();
    let mut left = uniform * mass;
    let mut chosen = candidates[0].id;
    for candidate in &candidates {
        let weight = weight(candidate);
        if weight > 0.0 {
            chosen = candidate.id;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    chosen
}

/// Keeps the `count` best, in order.
fn keep_best(candidates: &mut Vec<Candidate>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, best_first);
        candidates.truncate(count);
    }
    candidates.sort_unstable_by(best_first);
}

/// Keeps the fewest best whose weights reach `mass`, in order, at least one.
fn keep_nucleus(candidates: &mut Vec<Candidate>, mass: f64, weight: impl Fn(&Candidate) -> f64) {
    let mut guess = NUCLEUS_GUESS;
    loop {
        let sorted = guess.min(candidates.len());
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, best_first);
        }
        candidates[..sorted].sort_unstable_by(best_first);
        let mut reached = 0.0;
        let enough = candidates[..sorted].iter().position(|candidate| {
            reached += weight(candidate);
            reached >= mass
        });
        match enough {
            Some(last) => return candidates.truncate(last + 1),
            // Rounding may leave the full sum slightly below `mass`: then all are kept.
            None if sorted == candidates.len() => return,
            None => guess *= 4,
        }
    }
}

/// The model's log-probabilities of one step.
pub(crate) struct StepLogprobs {
    log_normalizer: f64,
    top: Vec<(u32, f32)>,
}

impl StepLogprobs {
    pub(crate) fn new(logits: &[f32], count: usize) -> Self {
        let largest = f64::from(logits[most_likely(logits) as usize]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        let log_normalizer = largest + sum.ln();
        let mut top = Vec::new();
        if count > 0 {
            let mut candidates: Vec<Candidate> = logits
                .iter()
                .zip(0..)
                .map(|(&logit, id)| Candidate { logit, id })
                .collect();
            keep_best(&mut candidates, count);
            top = candidates
                .iter()
                .map(|c| (c.id, (f64::from(c.logit) - log_normalizer) as f32))
                .collect();
        }
        Self { log_normalizer, top }
    }

    /// The log-probability of a token, given the model's logit of it.
    pub(crate) fn of(self, logit: f32) -> TokenLogprob {
        TokenLogprob {
            logprob: (f64::from(logit) - self.log_normalizer) as f32,
            top: self.top,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The partial sort keeps exactly what a full sort would.
        #[test]
        fn the_nucleus_is_the_smallest_prefix(logits in proptest::collection::vec(-8.0f32..8.0, 1..900), top_p in 0.0f64..1.0) {
            let all: Vec<Candidate> = logits.iter().zip(0..).map(|(&logit, id)| Candidate { logit, id }).collect();
            let weight = |candidate: &Candidate| f64::from(candidate.logit).exp();
            let mass = top_p * all.iter().map(weight).sum::<f64>();
            let mut sorted = all.clone();
            sorted.sort_by(best_first);
            let mut reached = 0.0;
            let keep = sorted.iter().position(|c| { reached += weight(c); reached >= mass }).map_or(sorted.len(), |last| last + 1);
            let mut found = all;
            keep_nucleus(&mut found, mass, weight);
            let ids = |list: &[Candidate]| list.iter().map(|c| c.id).collect::<Vec<_>>();
            prop_assert_eq!(ids(&found), ids(&sorted[..keep]));
        }
    }
}
