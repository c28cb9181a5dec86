//! Top-k routing from the router's logits: the k largest, their softmax as gate weights, the two auxiliary losses,
//! and the gradients of all of it.
//!
//! Balance: `n · Σ f_i P_i` over n of the choices (Fedus et al. 2021), f the share of what they got that fell on one, P its
//! mean probability among them; 1 if they are even. It goes over all modules or over the experts alone: with
//! the latter a router soon routes everything to the experts, which learn fastest, and neither the language module nor the
//! memory is trained. z-loss: the mean of `logsumexp²` (Zoph et al. 2022).

use std::ops::Range;

/// The modules that a layer's tokens are routed to.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopKRouting {
    /// `[t, k]`, the largest logit first; of equals the lower index.
    pub(crate) modules: Vec<u32>,
    /// `[t, k]`, the softmax over a token's chosen logits.
    pub(crate) weights: Vec<f32>,
    /// Modules per token.
    pub(crate) k: usize,
}

/// A layer's auxiliary losses and loads.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RouterLoad {
    /// `n · Σ f P`, 1 where the balanced choices are used evenly.
    pub(crate) balance: f64,
    /// Mean of `logsumexp²`.
    pub(crate) z: f64,
    /// Tokens routed to each module.
    pub(crate) counts: Vec<u64>,
}

/// Factors on the auxiliary losses' gradients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuxiliaryScales {
    pub(crate) balance: f32,
    pub(crate) z: f32,
}

impl TopKRouting {
    /// Chooses for every row of `logits [t, choices]`; a bias affects the choice, not the gate weights.
    pub(crate) fn of(logits: &[f32], bias: Option<&[f32]>, choices: usize, k: usize) -> Self {
        let rows = logits.len() / choices;
        let (mut modules, mut weights) = (Vec::with_capacity(rows * k), Vec::with_capacity(rows * k));
        let mut order: Vec<u32> = Vec::with_capacity(choices);
        let mut moved = vec![0.0; choices];
        for row in logits.chunks_exact(choices) {
            moved.copy_from_slice(row);
            for (moved, bias) in moved.iter_mut().zip(bias.unwrap_or_default()) {
                *moved += bias;
            }
            order.clear();
            order.extend(0..choices as u32);
            // stable: of equal logits the lower index comes first
            order.sort_by(|&a, &b| moved[b as usize].total_cmp(&moved[a as usize]));
            let largest = order[..k]
                .iter()
                .map(|&module| row[module as usize])
                .fold(f32::MIN, f32::max);
            let start = weights.len();
            modules.extend_from_slice(&order[..k]);
            weights.extend(order[..k].iter().map(|&module| (row[module as usize] - largest).exp()));
            let sum: f32 = weights[start..].iter().sum();
            weights[start..].iter_mut().for_each(|weight| *weight /= sum);
        }
        Self { modules, weights, k }
    }

    /// The rows routed to a module, in order, each with the index of its gate weight in `weights`.
    pub(crate) fn rows(&self, module: usize) -> Vec<(usize, usize)> {
        self.modules
            .iter()
            .enumerate()
            .filter(|&(_, &chosen)| chosen as usize == module)
            .map(|(place, _)| (place / self.k, place))
            .collect()
    }

    /// Adds to `dlogits [t, choices]` what the weights' gradients `dweights [t, k]` come to:
    /// the softmax over the chosen, `w_i (d_i − Σ_j w_j d_j)`.
    pub(crate) fn backward(&self, dweights: &[f32], choices: usize, dlogits: &mut [f32]) {
        for (row, target) in dlogits.chunks_exact_mut(choices).enumerate() {
            let range = row * self.k..(row + 1) * self.k;
            let (weights, d) = (&self.weights[range.clone()], &dweights[range.clone()]);
            let mean: f32 = weights.iter().zip(d).map(|(w, d)| w * d).sum();
            for ((&module, w), d) in self.modules[range].iter().zip(weights).zip(d) {
                target[module as usize] += w * (d - mean);
            }
        }
    }

    /// The auxiliary losses, and their gradients added to `dlogits` where those are wanted.
    pub(crate) fn auxiliary(
        &self,
        logits: &[f32],
        choices: usize,
        balanced: Range<usize>,
        mut wanted: Option<(AuxiliaryScales, &mut [f32])>,
    ) -> RouterLoad {
        let rows = logits.len() / choices;
        let mut counts = vec![0u64; choices];
        for &module in &self.modules {
            counts[module as usize] += 1;
        }
        let dispatch: u64 = counts[balanced.clone()].iter().sum();
        let share: Vec<f64> = counts[balanced.clone()]
            .iter()
            .map(|&count| count as f64 / dispatch.max(1) as f64)
            .collect();
        let (mut balance, mut z) = (0.0, 0.0);
        let (mut all, mut among) = (Vec::new(), Vec::new());
        let count = balanced.len() as f64;
        for (index, row) in logits.chunks_exact(choices).enumerate() {
            let log_sum = softmax(row, &mut all);
            z += log_sum * log_sum;
            softmax(&row[balanced.clone()], &mut among);
            let mean: f64 = among.iter().zip(&share).map(|(p, f)| p * f).sum();
            balance += count * mean;
            if let Some((factors, dlogits)) = &mut wanted {
                let target = &mut dlogits[index * choices..(index + 1) * choices];
                let z_slope = f64::from(factors.z) * 2.0 * log_sum / rows as f64;
                for (target, p) in target.iter_mut().zip(&all) {
                    *target += (z_slope * p) as f32;
                }
                let slope = f64::from(factors.balance) * count / rows as f64;
                for ((target, p), f) in target[balanced.clone()].iter_mut().zip(&among).zip(&share) {
                    *target += (slope * p * (f - mean)) as f32;
                }
            }
        }
        RouterLoad {
            balance: balance / rows.max(1) as f64,
            z: z / rows.max(1) as f64,
            counts,
        }
    }
}

/// Writes the softmax of a row into `probabilities` and gives the log of the sum of exponentials.
fn softmax(row: &[f32], probabilities: &mut Vec<f64>) -> f64 {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    probabilities.clear();
    probabilities.extend(row.iter().map(|&x| f64::from(x - largest).exp()));
    let sum: f64 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|p| *p /= sum);
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_chosen_and_weighed_by_their_softmax() {
        let choices = TopKRouting::of(&[0.0, 2.0, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0], None, 4, 2);
        assert_eq!(choices.modules, [1, 3, 0, 1]);
        assert_eq!(choices.weights, [0.5, 0.5, 0.5, 0.5]);
        assert_eq!(choices.rows(1), [(0, 0), (1, 3)]);
        assert!(choices.rows(2).is_empty());
        let biased = TopKRouting::of(&[0.0, 2.0, 1.0, 0.5], Some(&[3.0, 0.0, 0.0, 0.0]), 4, 2);
        assert_eq!(biased.modules, [0, 1]);
        let weight = 1.0 / (1.0 + 2.0f32.exp());
        assert!((biased.weights[0] - weight).abs() < 1e-6);
    }

    #[test]
    fn even_use_costs_one_and_gradients_are_differences() {
        let even = [0.0f32; 12];
        let choices = TopKRouting {
            modules: vec![0, 1, 2],
            weights: vec![1.0; 3],
            k: 1,
        };
        assert!((choices.auxiliary(&even, 4, 0..3, None).balance - 1.0).abs() < 1e-12);

        let logits: Vec<f32> = (0..20).map(|i| (f64::from(i) * 1.7).sin() as f32).collect();
        let chosen = TopKRouting::of(&logits, None, 5, 2);
        let factors = AuxiliaryScales { balance: 0.7, z: 0.3 };
        let value = |logits: &[f32]| {
            let load = chosen.auxiliary(logits, 5, 1..4, None);
            0.7 * load.balance + 0.3 * load.z
        };
        let mut gradient = vec![0.0; 20];
        chosen.auxiliary(&logits, 5, 1..4, Some((factors, &mut gradient)));
        // the weights' part: Σ c · w over the chosen
        let c: Vec<f32> = (0..8).map(|i| i as f32 - 3.0).collect();
        let weighed = |logits: &[f32]| -> f64 {
            let again = TopKRouting::of(logits, None, 5, 2);
            again.weights.iter().zip(&c).map(|(w, c)| f64::from(w * c)).sum()
        };
        let mut through = vec![0.0; 20];
        chosen.backward(&c, 5, &mut through);
        for i in 0..20 {
            let slope = |of: &dyn Fn(&[f32]) -> f64| {
                let moved = |by: f32| {
                    let mut moved = logits.clone();
                    moved[i] += by;
                    of(&moved)
                };
                (moved(1e-2) - moved(-1e-2)) / 2e-2
            };
            assert!((slope(&value) - f64::from(gradient[i])).abs() < 1e-3, "auxiliary {i}");
            assert!((slope(&weighed) - f64::from(through[i])).abs() < 2e-3, "weights {i}");
        }
    }
}
