//! AdamW (Loshchilov and Hutter 2019) over flat f32 buffers, in torch's order of operations.

use crate::parallel::{SharedMut, for_each_chunk};

/// Hyper-parameters of one update.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Number of this update, from 1.
    pub step: u64,
    /// Factor on the gradients (clipping).
    pub gradient_scale: f32,
}

/// The buffers of one update, all of one length.
#[derive(Debug)]
pub struct State<'a> {
    /// Parameters.
    pub parameters: &'a mut [f32],
    /// First moments.
    pub first: &'a mut [f32],
    /// Second moments.
    pub second: &'a mut [f32],
    /// Gradients.
    pub gradients: &'a [f32],
}

impl AdamW {
    /// `p *= 1 − lr·wd`, the moments' moving averages, `p −= lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)`.
    #[expect(clippy::needless_pass_by_value, reason = "the state is four borrowed buffers")]
    pub fn update(&self, state: State<'_>) {
        let (first, second) = (SharedMut::new(state.first), SharedMut::new(state.second));
        let gradients = state.gradients;
        for_each_chunk(state.parameters, |start, parameters| {
            let n = parameters.len();
            // SAFETY: the blocks of the parameters are disjoint, and so are the same ranges of the moments.
            let (first, second) = unsafe { (first.slice(start, n), second.slice(start, n)) };
            update_block(
                *self,
                State {
                    parameters,
                    first,
                    second,
                    gradients: &gradients[start..start + n],
                },
            );
        });
    }
}

crate::isa::multiversion! {
    fn update_block(options: AdamW, state: State<'_>) = update_body
}

#[inline(always)]
fn update_body(options: AdamW, state: State<'_>) {
    let correction1 = 1.0 - f64::from(options.beta1).powi(options.step as i32);
    let correction2 = (1.0 - f64::from(options.beta2).powi(options.step as i32)).sqrt();
    let step_size = (f64::from(options.learning_rate) / correction1) as f32;
    let root = (1.0 / correction2) as f32;
    let keep = 1.0 - options.learning_rate * options.weight_decay;
    let (beta1, beta2) = (options.beta1, options.beta2);
    for (((p, m), v), g) in state
        .parameters
        .iter_mut()
        .zip(state.first)
        .zip(state.second)
        .zip(state.gradients)
    {
        let g = g * options.gradient_scale;
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        *p = *p * keep - step_size * *m / (v.sqrt() * root + options.epsilon);
    }
}

/// Sum of squares in f64, in one fixed order.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    values
        .chunks(4096)
        .map(|chunk| chunk.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_definition_over_steps_and_lengths() {
        for count in [1usize, 17, 40_000] {
            let start = |scale: f64| {
                (0..count)
                    .map(|i| (i as f64 * 0.37).sin() * scale)
                    .collect::<Vec<f64>>()
            };
            let mut expected = (start(1.0), vec![0.0f64; count], vec![0.0f64; count]);
            let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
            let (mut p, mut m, mut v) = (narrow(&expected.0), vec![0.0f32; count], vec![0.0f32; count]);
            for step in 1..=5u64 {
                let gradients = start(0.1 * step as f64);
                let (lr, b1, b2, eps, wd, clip) = (1e-2, 0.9, 0.999, 1e-8, 0.1, 0.5);
                AdamW {
                    learning_rate: lr as f32,
                    beta1: b1 as f32,
                    beta2: b2 as f32,
                    epsilon: eps as f32,
                    weight_decay: wd as f32,
                    step,
                    gradient_scale: clip as f32,
                }
                .update(State {
                    parameters: &mut p,
                    first: &mut m,
                    second: &mut v,
                    gradients: &narrow(&gradients),
                });
                let (c1, c2) = (1.0 - f64::powi(b1, step as i32), 1.0 - f64::powi(b2, step as i32));
                for (i, gradient) in gradients.iter().enumerate() {
                    let g = gradient * clip;
                    expected.1[i] = b1 * expected.1[i] + (1.0 - b1) * g;
                    expected.2[i] = b2 * expected.2[i] + (1.0 - b2) * g * g;
                    expected.0[i] *= 1.0 - lr * wd;
                    expected.0[i] -= lr / c1 * expected.1[i] / (expected.2[i].sqrt() / c2.sqrt() + eps);
                }
            }
            for (got, want) in p.iter().zip(&expected.0) {
                assert!(
                    (f64::from(*got) - want).abs() < 1e-4,
                    "{got} instead of {want} of {count}"
                );
            }
        }
    }
}
