//! Exact top-k by magnitude in O(n): which entries of a tensor survive trimming.
//!
//! |x| read as an integer orders like |x|, so two histograms find the k-th largest magnitude: one over the upper 16
//! of its 31 bits, one over the lower 15 of the entries in the bin that holds it. Nothing is sorted or copied; the
//! answer is a threshold that every later pass can apply on its own. Ties at the threshold go to the lowest index.

use std::ops::Range;

use rayon::prelude::*;

/// Entries per unit of parallel work.
const PIECE: usize = 1 << 18;
/// Low bits left to the second histogram.
const LOW_BITS: u32 = 15;
/// Bins of the first histogram, over the upper 16 of 31 bits.
const HIGH_BINS: usize = 1 << 16;
/// Bit pattern of infinity: from here on magnitudes are infinite or NaN.
const INFINITY: u32 = 0x7f80_0000;

/// The magnitude of `value` as an integer that orders like it.
#[inline(always)]
pub(crate) fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// Which entries of a tensor are kept: those above a magnitude, and the first few exactly at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The k-th largest magnitude.
    threshold: u32,
    /// Entries at the threshold are kept below this index only.
    ties_end: usize,
}

impl Kept {
    /// Every entry is kept.
    pub(crate) const ALL: Self = Self {
        threshold: 0,
        ties_end: usize::MAX,
    };

    /// The least magnitude kept throughout `range`. A range that straddles the last kept tie has none: cut it at
    /// [`Kept::cut`] first.
    #[inline(always)]
    pub(crate) fn least(&self, range: &Range<usize>) -> u32 {
        if range.end <= self.ties_end {
            self.threshold
        } else {
            self.threshold + 1
        }
    }

    /// Where within `range` the rule changes, if it does.
    pub(crate) fn cut(&self, range: &Range<usize>) -> Option<usize> {
        (range.start < self.ties_end && self.ties_end < range.end).then_some(self.ties_end)
    }
}

/// Finds the `count` entries of largest magnitude; `None` when an entry is NaN or infinite.
/// `count` is capped at the number of entries; with 0 of 0 everything is kept.
pub(crate) fn largest(values: &[f32], count: usize) -> Option<Kept> {
    if count == 0 || count >= values.len() {
        return values
            .par_chunks(PIECE)
            .all(|piece| piece.iter().all(|x| x.is_finite()))
            .then_some(Kept::ALL);
    }
    let high = histogram(values, HIGH_BINS, |bits| Some(bits >> LOW_BITS));
    if high[(INFINITY >> LOW_BITS) as usize..].iter().any(|&count| count > 0) {
        return None;
    }
    let (bin, wanted) = descend(&high, count);
    let low = histogram(values, 1 << LOW_BITS, |bits| {
        (bits >> LOW_BITS == bin).then_some(bits & ((1 << LOW_BITS) - 1))
    });
    let (rest, wanted) = descend(&low, wanted);
    let threshold = bin << LOW_BITS | rest;
    let tied = low[rest as usize];
    let ties_end = if wanted == tied {
        usize::MAX
    } else {
        end_of_ties(values, threshold, wanted)
    };
    Some(Kept { threshold, ties_end })
}

/// Counts per bin, summed over pieces; integers, so the order of adding is free.
fn histogram(values: &[f32], bins: usize, bin: impl Fn(u32) -> Option<u32> + Sync) -> Vec<usize> {
    values
        .par_chunks(PIECE)
        .fold(
            || vec![0_usize; bins],
            |mut counts, piece| {
                for &value in piece {
                    if let Some(bin) = bin(magnitude(value)) {
                        counts[bin as usize] += 1;
                    }
                }
                counts
            },
        )
        .reduce(
            || vec![0_usize; bins],
            |mut left, right| {
                for (left, right) in left.iter_mut().zip(right) {
                    *left += right;
                }
                left
            },
        )
}

/// The bin of the `wanted`-th largest entry, and how many of that bin's entries are wanted (at least one).
fn descend(counts: &[usize], mut wanted: usize) -> (u32, usize) {
    for (bin, &count) in counts.iter().enumerate().rev() {
        if wanted <= count {
            return (bin as u32, wanted);
        }
        wanted -= count;
    }
    (0, wanted)
}

/// The index just behind the `wanted`-th entry of exactly this magnitude.
fn end_of_ties(values: &[f32], threshold: u32, mut wanted: usize) -> usize {
    let counts: Vec<usize> = values
        .par_chunks(PIECE)
        .map(|piece| piece.iter().filter(|&&value| magnitude(value) == threshold).count())
        .collect();
    let mut start = 0;
    for count in counts {
        if wanted <= count {
            break;
        }
        wanted -= count;
        start += PIECE;
    }
    values[start..]
        .iter()
        .enumerate()
        .filter(|&(_, &value)| magnitude(value) == threshold)
        .nth(wanted.saturating_sub(1))
        .map_or(usize::MAX, |(offset, _)| start + offset + 1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use proptest::prelude::*;

    use super::*;

    /// The indices kept, by applying the rule entry by entry.
    fn indices(kept: &Kept, values: &[f32]) -> Vec<usize> {
        (0..values.len())
            .filter(|&at| magnitude(values[at]) >= kept.least(&(at..at + 1)))
            .collect()
    }

    /// A stable sort by falling magnitude: equal magnitudes stay in index order.
    fn by_sorting(values: &[f32], count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(magnitude(values[at])));
        order.truncate(count);
        order.sort_unstable();
        order
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        let values = [1.0, -2.0, 2.0, 0.5, -2.0, 3.0];
        assert_eq!(indices(&largest(&values, 3).unwrap(), &values), [1, 2, 5]);
        assert_eq!(indices(&largest(&values, 2).unwrap(), &values), [1, 5]);
        assert_eq!(indices(&largest(&values, 4).unwrap(), &values), [1, 2, 4, 5]);
        assert_eq!(largest(&values, 6), Some(Kept::ALL));
        assert_eq!(largest(&[], 0), Some(Kept::ALL));
    }

    #[test]
    fn a_cut_is_where_ties_stop() {
        let kept = largest(&[5.0, 5.0, 5.0], 2).unwrap();
        assert_eq!(kept.cut(&(0..3)), Some(2));
        assert_eq!(kept.cut(&(0..2)), None);
        assert_eq!(kept.cut(&(2..3)), None);
    }

    #[test]
    fn refuses_what_has_no_order() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(largest(&[1.0, bad, 2.0], 1), None);
            assert_eq!(largest(&[1.0, bad, 2.0], 3), None);
        }
    }

    #[test]
    fn ties_far_behind_the_first_piece() {
        let mut values = vec![0.0_f32; 3 * PIECE];
        for at in [PIECE + 3, PIECE + 9, 2 * PIECE + 1] {
            values[at] = -1.0;
        }
        assert_eq!(indices(&largest(&values, 2).unwrap(), &values), [PIECE + 3, PIECE + 9]);
        let kept = largest(&values, 5).unwrap();
        assert_eq!(indices(&kept, &values), [0, 1, PIECE + 3, PIECE + 9, 2 * PIECE + 1]);
    }

    proptest! {
        #[test]
        fn equals_a_stable_sort(
            values in prop::collection::vec(prop_oneof![
                any::<f32>().prop_filter("finite", |x| x.is_finite()),
                (-3_i8..=3).prop_map(f32::from),
                (-5_i32..5).prop_map(|x| 1.0 + x as f32 * f32::EPSILON),
            ], 1..300),
            share in 0.0_f64..=1.0,
        ) {
            let count = ((values.len() as f64 * share) as usize).max(1);
            let kept = largest(&values, count).unwrap();
            prop_assert_eq!(indices(&kept, &values), by_sorting(&values, count));
        }
    }
}
