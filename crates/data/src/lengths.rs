//! How long training documents are, before anything is cut: the figures that show truncation before it hurts.

use serde::{Deserialize, Serialize};

/// Bars of a histogram up to `max_seq_len`.
pub const LENGTH_BARS: usize = 16;

/// Lengths of documents in tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Documents counted.
    pub documents: u64,
    /// Tokens of all of them.
    pub tokens: u64,
    /// The shortest.
    pub shortest: u64,
    /// Half of them are not longer.
    pub median: u64,
    /// Nine in ten are not longer.
    pub p90: u64,
    /// 95 in a hundred are not longer.
    pub p95: u64,
    /// 99 in a hundred are not longer.
    pub p99: u64,
    /// The longest.
    pub longest: u64,
    /// Documents by length: equal parts of `max_seq_len`, and as the last bar those that are longer.
    pub histogram: Vec<u64>,
}

impl Lengths {
    /// The figures of these lengths.
    pub(crate) fn of(mut lengths: Vec<usize>, max_seq_len: usize) -> Self {
        lengths.sort_unstable();
        let Some((&shortest, &longest)) = lengths.first().zip(lengths.last()) else {
            return Self::default();
        };
        // The smallest length that at least this share does not exceed.
        let quantile = |percent: usize| {
            let rank = (lengths.len() * percent).div_ceil(100).max(1);
            lengths[rank - 1] as u64
        };
        let mut histogram = vec![0; LENGTH_BARS + 1];
        for &length in &lengths {
            let bar = (length.max(1) - 1) * LENGTH_BARS / max_seq_len.max(1);
            histogram[bar.min(LENGTH_BARS)] += 1;
        }
        Self {
            documents: lengths.len() as u64,
            tokens: lengths.iter().map(|&length| length as u64).sum(),
            shortest: shortest as u64,
            median: quantile(50),
            p90: quantile(90),
            p95: quantile(95),
            p99: quantile(99),
            longest: longest as u64,
            histogram,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_bars_of_a_hundred_lengths() {
        let lengths = Lengths::of((1..=100).rev().collect(), 80);
        assert_eq!((lengths.shortest, lengths.median, lengths.p90), (1, 50, 90));
        assert_eq!((lengths.p95, lengths.p99, lengths.longest), (95, 99, 100));
        assert_eq!(lengths.histogram, [vec![5; 16], vec![20]].concat());
        assert_eq!(lengths.tokens, 5050);
        assert_eq!(Lengths::of(Vec::new(), 80), Lengths::default());
        assert_eq!(Lengths::of(vec![7], 80).p99, 7);
    }
}
