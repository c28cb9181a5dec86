//! Intervals and paired tests over items.
//!
//! Everything here is deterministic: resampling draws from a generator seeded by a constant, so the same items give
//! the same interval on every machine. The normal quantile is `statrs`'. The bootstrap's percentiles are computed here, because
//! they interpolate as numpy does (Hyndman and Fan's type 7) and `statrs` as type 8; so is McNemar's binomial tail, whose
//! sum is exact for any number of items where the incomplete beta function stops after a fixed number of iterations.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// Number of bootstrap resamples; the 2.5 % tail then has 50 of them.
const RESAMPLES: usize = 2_000;
/// Seed of every bootstrap.
const SEED: u64 = 0x5EED;
/// Upper quantile of a two-sided 95 % interval.
const UPPER: f64 = 0.975;

/// A 95 % interval, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` is inside.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// Half its width, for "value ± half width"; Wilson's interval is not symmetric, so this is a summary.
    #[must_use]
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// One observation: a document's mean loss weighted by its tokens, or an answer, right (1) or wrong (0).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighted {
    /// The observed value.
    pub value: f64,
    /// Its weight in a mean.
    pub weight: f64,
}

impl From<f64> for Weighted {
    /// An observation of weight 1.
    fn from(value: f64) -> Self {
        Self { value, weight: 1.0 }
    }
}

/// The weighted mean of the items; `None` if the weights sum to zero.
#[must_use]
pub fn weighted_mean(items: &[Weighted]) -> Option<f64> {
    let weight: f64 = items.iter().map(|item| item.weight).sum();
    let sum: f64 = items.iter().map(|item| item.value * item.weight).sum();
    (weight > 0.0).then(|| sum / weight)
}

/// Wilson's score interval of `successes` out of `n` (Wilson 1927), which remains valid at 0 and at n.
#[must_use]
pub fn wilson(successes: f64, n: f64) -> Interval {
    if n <= 0.0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let p = successes / n;
    let z = Normal::standard().inverse_cdf(UPPER);
    let z2 = z * z;
    let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
    // at 0 and n the two terms are equal; rounding must not exclude the share itself
    Interval {
        low: (center - half).clamp(0.0, p),
        high: (center + half).clamp(p, 1.0),
    }
}

/// Percentile bootstrap of the weighted mean, resampling whole items, because the tokens of a document
/// are not independent. `None` below two items.
#[must_use]
pub fn bootstrap_mean(items: &[Weighted]) -> Option<Interval> {
    bootstrap([items], |[mean]| mean)
}

/// Percentile bootstrap of `mean(b) − mean(a)` over the same items, pair by pair.
///
/// Both lists have the same items in the same order. `None` below two items.
#[must_use]
pub fn paired_bootstrap(a: &[Weighted], b: &[Weighted]) -> Option<Interval> {
    bootstrap([a, b], |[a, b]| b - a)
}

/// Percentile bootstrap of any statistic of the weighted means of several models on the same items.
///
/// All lists have the same items in the same order. Resamples with a statistic that is not finite are skipped.
#[must_use]
pub fn bootstrap<const N: usize>(models: [&[Weighted]; N], statistic: impl Fn([f64; N]) -> f64) -> Option<Interval> {
    let n = models.iter().map(|items| items.len()).min()?;
    if n < 2 {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let mut sums = [(0.0, 0.0); N];
        for _ in 0..n {
            let drawn = random.random_range(0..n);
            for (sum, items) in sums.iter_mut().zip(&models) {
                let item = &items[drawn];
                sum.0 += item.value * item.weight;
                sum.1 += item.weight;
            }
        }
        let value = statistic(sums.map(|(sum, weight)| sum / weight));
        if value.is_finite() {
            found.push(value);
        }
    }
    found.sort_by(f64::total_cmp);
    Some(Interval {
        low: quantile(&found, 0.025)?,
        high: quantile(&found, 0.975)?,
    })
}

/// Linear interpolation between order statistics (numpy's default).
fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q * last as f64;
    let below = position.floor();
    let (low, high) = (sorted.get(below as usize)?, sorted.get((below as usize + 1).min(last))?);
    Some(low + (high - low) * (position - below))
}

/// McNemar's exact two-sided test on discordant pairs: only the first model got `only_a` items right, only the second
/// `only_b`. The p-value is that of the binomial distribution with probability 1/2.
#[must_use]
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let n = only_a + only_b;
    let fewer = only_a.min(only_b);
    // ln C(n, 0) − n ln 2, then each binomial coefficient from the one before.
    let mut ln_term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += ln_term.exp();
        ln_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The unbiased estimate of pass@k from `n` answers, `c` of them correct:
/// 1 − C(n−c, k) / C(n, k) of Chen et al. 2021, eq. 1. `k` is at most `n`.
#[must_use]
pub fn pass_at_k(n: usize, c: usize, k: usize) -> f64 {
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn items(values: &[f64]) -> Vec<Weighted> {
        values.iter().copied().map(Weighted::from).collect()
    }

    #[test]
    fn wilson_equals_its_closed_form() {
        // The closed form, evaluated by a Python script in double precision.
        let cases = [
            (15.0, 50.0, 0.191_035_535_008_809_54, 0.437_503_504_644_534),
            (0.0, 10.0, 0.0, 0.277_532_799_862_889_1),
            (10.0, 10.0, 0.722_467_200_137_110_7, 1.0),
        ];
        for (k, n, low, high) in cases {
            let found = wilson(k, n);
            assert!(
                (found.low - low).abs() < 1e-12 && (found.high - high).abs() < 1e-12,
                "{k}/{n}: {found:?}"
            );
        }
    }

    #[test]
    fn mcnemar_equals_the_binomial_test() {
        // Exact binomial sums in Python's integers.
        for (a, b, p) in [
            (0, 5, 0.0625),
            (1, 9, 0.021_484_375),
            (3, 3, 1.0),
            (0, 0, 1.0),
            (40, 60, 0.056_887_933_640_98),
        ] {
            assert!((mcnemar(a, b) - p).abs() < 1e-9, "{a} {b}: {}", mcnemar(a, b));
        }
    }

    #[test]
    fn pass_at_k_equals_the_quotient_of_binomials() {
        // 1 - comb(n - c, k) / comb(n, k) in Python's integers, divided once.
        for (n, c, k, expected) in [
            (1, 0, 1, 0.0),
            (1, 1, 1, 1.0),
            (10, 3, 1, 0.3),
            (10, 3, 5, 0.916_666_666_666_666_6),
            (200, 7, 10, 0.305_598_811_617_733_5),
            (10, 6, 5, 1.0),
        ] {
            let found = pass_at_k(n, c, k);
            assert!((found - expected).abs() < 1e-12, "{n} {c} {k}: {found}");
        }
    }

    #[test]
    fn paired_interval_is_far_narrower_than_the_unpaired_one() {
        let hard: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
        let better: Vec<f64> = hard.iter().map(|v| v - 0.1).collect();
        let paired = paired_bootstrap(&items(&hard), &items(&better)).unwrap();
        assert!(
            (paired.low + 0.1).abs() < 1e-9 && (paired.high + 0.1).abs() < 1e-9,
            "{paired:?}"
        );
        assert!(bootstrap_mean(&items(&hard)).unwrap().half_width() > 0.4);
    }

    #[test]
    fn weights_count() {
        let items = [
            Weighted {
                value: 1.0,
                weight: 3.0,
            },
            Weighted {
                value: 5.0,
                weight: 1.0,
            },
        ];
        assert_eq!(weighted_mean(&items), Some(2.0));
        assert_eq!(weighted_mean(&[]), None);
    }

    proptest! {
        #[test]
        fn bootstrap_is_deterministic_and_ordered(values in proptest::collection::vec(-5.0..5.0f64, 2..40)) {
            let items = items(&values);
            let interval = bootstrap_mean(&items).unwrap();
            prop_assert_eq!(bootstrap_mean(&items), Some(interval));
            prop_assert!(interval.low <= interval.high);
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(low - 1e-9 <= interval.low && interval.high <= high + 1e-9);
        }

        #[test]
        fn wilson_holds_its_share(n in 1u32..500, share in 0.0..=1.0f64) {
            let k = (share * f64::from(n)).floor();
            prop_assert!(wilson(k, f64::from(n)).contains(k / f64::from(n)));
        }
    }
}
