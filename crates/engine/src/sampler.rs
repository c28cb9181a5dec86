//! One request's sampling: bias and penalties, its own random stream, its log-probabilities.
//!
//! Every request has its own ChaCha stream, seeded by the request, and draws once per token: the sampled token depends
//! on the seed and the logits only.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::distribution::{self, StepLogprobs, most_likely};
use crate::{Constraint, SamplingOptions, Token};

/// The sampling state of one request.
#[derive(Debug)]
pub(crate) struct Sampler {
    random: ChaCha8Rng,
    prompt: BTreeSet<u32>,
    /// How often each token was generated.
    generated: BTreeMap<u32, u32>,
}

impl Sampler {
    pub(crate) fn new(options: &SamplingOptions, prompt: &[u32]) -> Self {
        let penalizes_prompt = options.repetition_penalty != 1.0;
        Self {
            random: ChaCha8Rng::seed_from_u64(options.seed),
            prompt: if penalizes_prompt {
                prompt.iter().copied().collect()
            } else {
                BTreeSet::new()
            },
            generated: BTreeMap::new(),
        }
    }

    /// Samples the next token, which the grammar allows, and records it for the penalties. Its text is still empty.
    ///
    /// # Errors
    /// A logit that is not a number or is infinite: the model is broken, and any token would be arbitrary. A grammar
    /// that cannot be followed.
    pub(crate) fn sample(
        &mut self,
        options: &SamplingOptions,
        constraint: Option<&mut Constraint>,
        logits: &mut [f32],
    ) -> Result<Token, String> {
        check_finite(logits)?;
        // Log-probabilities are reported before the logits are changed.
        let logprobs = options.logprobs.map(|count| StepLogprobs::new(logits, count));
        let unbiased = logprobs.as_ref().map(|_| logits.to_vec());
        self.adjust(options, logits);
        if let Some(constraint) = constraint {
            constraint.mask(logits)?;
        }
        let uniform = self.uniform();
        let id = if options.temperature == 0.0 {
            most_likely(logits)
        } else {
            distribution::sample(options, logits, uniform)
        };
        *self.generated.entry(id).or_default() += 1;
        let logprob = logprobs.zip(unbiased).map(|(step, own)| step.of(own[id as usize]));
        Ok(Token {
            id,
            text: String::new(),
            logprob,
        })
    }

    /// Bias and penalties.
    fn adjust(&self, options: &SamplingOptions, logits: &mut [f32]) {
        for (&id, bias) in &options.logit_bias {
            logits[id as usize] += bias;
        }
        if options.repetition_penalty != 1.0 {
            for &id in self.prompt.union(&self.generated.keys().copied().collect()) {
                let logit = &mut logits[id as usize];
                *logit = if *logit > 0.0 {
                    *logit / options.repetition_penalty
                } else {
                    *logit * options.repetition_penalty
                };
            }
        }
        if options.presence_penalty != 0.0 || options.frequency_penalty != 0.0 {
            for (&id, &count) in &self.generated {
                logits[id as usize] -= options.presence_penalty + count as f32 * options.frequency_penalty;
            }
        }
    }

    /// The next number of this request's stream, in [0, 1), with 53 bits.
    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Refuses logits that make every token arbitrary.
pub(crate) fn check_finite(logits: &[f32]) -> Result<(), String> {
    if logits.is_empty() {
        return Err("the model gave no logits".into());
    }
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(index) => Err(format!("the model's logit of token {index} is {}", logits[index])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn sample(options: &SamplingOptions, prompt: &[u32], logits: &[f32]) -> Token {
        Sampler::new(options, prompt)
            .sample(options, None, &mut logits.to_vec())
            .unwrap()
    }

    fn warm() -> SamplingOptions {
        SamplingOptions {
            temperature: 1.0,
            ..SamplingOptions::default()
        }
    }

    /// How often each of the tokens comes up in many draws of one stream.
    fn shares(options: &SamplingOptions, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(options, &[]);
        let mut counts = vec![0usize; logits.len()];
        let draws = 20_000;
        for _ in 0..draws {
            counts[sampler.sample(options, None, &mut logits.to_vec()).unwrap().id as usize] += 1;
        }
        counts
            .into_iter()
            .map(|count| count as f64 / f64::from(draws))
            .collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        for (found_share, expected_share) in found.iter().zip(expected) {
            assert!(
                (found_share - expected_share).abs() < 0.015,
                "expected {expected:?}, found {found:?}"
            );
        }
    }

    #[test]
    fn greedy_takes_the_largest_and_the_lowest_id_of_a_tie() {
        assert_eq!(sample(&SamplingOptions::default(), &[], &[0.0, 3.0, 3.0, -1.0]).id, 1);
    }

    #[test]
    fn shares_follow_the_softmax_and_the_temperature() {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        close(&shares(&warm(), &logits), &[0.6, 0.3, 0.1]);
        let hot = SamplingOptions {
            temperature: 2.0,
            ..warm()
        };
        let roots = [0.6f64.sqrt(), 0.3f64.sqrt(), 0.1f64.sqrt()];
        let sum: f64 = roots.iter().sum();
        close(&shares(&hot, &logits), &roots.map(|root| root / sum));
    }

    #[test]
    fn truncations_keep_what_their_definition_says() {
        let logits = [0.1f32.ln(), 0.5f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        close(
            &shares(&SamplingOptions { top_k: 2, ..warm() }, &logits),
            &[0.0, 0.625, 0.375, 0.0],
        );
        close(
            &shares(&SamplingOptions { top_p: 0.79, ..warm() }, &logits),
            &[0.0, 0.625, 0.375, 0.0],
        );
        close(
            &shares(&SamplingOptions { top_p: 0.0, ..warm() }, &logits),
            &[0.0, 1.0, 0.0, 0.0],
        );
        close(
            &shares(&SamplingOptions { min_p: 0.5, ..warm() }, &logits),
            &[0.0, 0.625, 0.375, 0.0],
        );
        // top-p counts the mass of what top-k left: 0.5 of 0.8 is 0.625.
        close(
            &shares(
                &SamplingOptions {
                    top_k: 2,
                    top_p: 0.62,
                    ..warm()
                },
                &logits,
            ),
            &[0.0, 1.0, 0.0, 0.0],
        );
    }

    #[test]
    fn a_bias_moves_and_bans_tokens() {
        let options = |id, bias| SamplingOptions {
            logit_bias: [(id, bias)].into(),
            ..SamplingOptions::default()
        };
        assert_eq!(sample(&options(2, 100.0), &[], &[1.0, 2.0, 0.0]).id, 2);
        assert_eq!(sample(&options(1, -100.0), &[], &[1.0, 2.0, 0.0]).id, 0);
    }

    #[test]
    fn penalties_count_what_they_say_they_count() {
        // Repetition sees the prompt, dividing positive and multiplying negative logits.
        let repetition = SamplingOptions {
            repetition_penalty: 2.0,
            ..SamplingOptions::default()
        };
        assert_eq!(sample(&repetition, &[1], &[1.5, 2.0]).id, 0);
        assert_eq!(sample(&repetition, &[1], &[-1.5, -1.0]).id, 0);
        // Presence and frequency see the answer only, frequency once per occurrence.
        let presence = SamplingOptions {
            presence_penalty: 0.6,
            ..SamplingOptions::default()
        };
        assert_eq!(sample(&presence, &[1], &[1.5, 2.0]).id, 1);
        let ids = |options: &SamplingOptions| {
            let mut sampler = Sampler::new(options, &[]);
            (0..4)
                .map(|_| sampler.sample(options, None, &mut [1.5, 2.0]).unwrap().id)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&presence), [1, 0, 1, 1]);
        let frequency = SamplingOptions {
            frequency_penalty: 0.3,
            ..SamplingOptions::default()
        };
        assert_eq!(ids(&frequency), [1, 1, 0, 1]);
    }

    #[test]
    fn log_probabilities_are_the_models_own() {
        let options = SamplingOptions {
            logprobs: Some(2),
            logit_bias: [(2, 100.0)].into(),
            temperature: 0.5,
            ..SamplingOptions::default()
        };
        let sampled = sample(&options, &[], &[0.5f32.ln(), 0.25f32.ln(), 0.25f32.ln()]);
        assert_eq!(sampled.id, 2);
        let logprob = sampled.logprob.unwrap();
        assert!((logprob.logprob - 0.25f32.ln()).abs() < 1e-6);
        assert_eq!(logprob.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1]);
        assert!((logprob.top[0].1 - 0.5f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn broken_logits_are_an_error() {
        let options = SamplingOptions::default();
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Sampler::new(&options, &[])
                .sample(&options, None, &mut [0.0, broken])
                .unwrap_err();
            assert!(error.contains("token 1"), "{error}");
        }
        assert!(Sampler::new(&options, &[]).sample(&options, None, &mut []).is_err());
    }
}
