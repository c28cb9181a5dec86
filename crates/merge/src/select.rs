//! Exact order statistics by magnitude in O(n): which entries of a tensor survive trimming.
//!
//! |x| read as an integer orders like |x|, so two histograms find the k-th largest magnitude: one over the upper 16
//! of its 31 bits, one over the lower 15 of the entries in the bin that holds it. Nothing is sorted or copied; the
//! answer is a threshold that every later pass can apply on its own. Ties at the threshold go to the lowest index.
//! All inputs of a tensor, and all ranks wanted of each, share the same two sweeps.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::tiles::{Field, Tile};
use crate::{MergeError, Result};

/// Low bits left to the second histogram.
const LOW_BITS: u32 = 15;
/// Bins of the first histogram, over the upper 16 of 31 bits.
const HIGH_BINS: usize = 1 << 16;
/// Bins of the second.
const LOW_BINS: usize = 1 << LOW_BITS;
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
    /// No entry is kept.
    pub(crate) const NONE: Self = Self {
        threshold: u32::MAX,
        ties_end: usize::MAX,
    };

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
            self.threshold.saturating_add(1)
        }
    }

    /// Entries of at least this magnitude, ties below an index only.
    pub(crate) fn ties_below(threshold: u32, ties_end: usize) -> Self {
        Self { threshold, ties_end }
    }

    /// The k-th largest magnitude itself.
    pub(crate) fn threshold(&self) -> f32 {
        f32::from_bits(self.threshold)
    }

    /// The same threshold with every tie kept.
    pub(crate) fn with_ties(self) -> Self {
        Self {
            ties_end: usize::MAX,
            ..self
        }
    }

    /// Whether one entry is kept.
    #[inline(always)]
    pub(crate) fn keeps(&self, index: usize, value: f32) -> bool {
        let magnitude = magnitude(value);
        magnitude > self.threshold || magnitude == self.threshold && index < self.ties_end
    }

    /// Where within `range` the rule changes, if it does.
    pub(crate) fn cut(&self, range: &Range<usize>) -> Option<usize> {
        (range.start < self.ties_end && self.ties_end < range.end).then_some(self.ties_end)
    }
}

/// The values whose magnitudes are ranked: an input's, or something made of several.
pub(crate) trait Series: Sync {
    /// How many series there are.
    fn count(&self) -> usize;

    /// Whether the values are made with the base's.
    fn with_base(&self) -> bool {
        false
    }

    /// One series' values in a tile; `scratch` may be used to make them.
    fn values<'s>(&self, tile: &'s Tile<'_>, index: usize, scratch: &'s mut Vec<f32>) -> &'s [f32];
}

/// Every input by itself.
#[derive(Debug)]
pub(crate) struct Inputs(pub(crate) usize);

impl Series for Inputs {
    fn count(&self) -> usize {
        self.0
    }

    fn values<'s>(&self, tile: &'s Tile<'_>, index: usize, _: &'s mut Vec<f32>) -> &'s [f32] {
        tile.inputs[index]
    }
}

/// Histograms of series, one each: of u32 within a tensor, whose entries fit and whose bins then stay in the cache, of
/// u64 across tensors.
#[derive(Clone, Debug)]
pub(crate) struct Counts<N>(Vec<Vec<N>>);

impl<N: Copy + Default + Into<u64>> Counts<N> {
    /// Counts of `series` series before anything was counted.
    fn empty(series: usize, bins: usize) -> Self {
        Self(vec![vec![N::default(); bins]; series])
    }

    /// Upper histograms of `series` series.
    pub(crate) fn high(series: usize) -> Self {
        Self::empty(series, HIGH_BINS)
    }

    /// Lower histograms of `series` series.
    pub(crate) fn low(series: usize) -> Self {
        Self::empty(series, LOW_BINS)
    }

    /// The bin of a series' `wanted`-th largest entry, and how many of that bin are wanted (at least one).
    fn descend(&self, series: usize, mut wanted: u64) -> (u32, u64) {
        for (bin, &count) in self.0[series].iter().enumerate().rev() {
            let count = count.into();
            if wanted <= count {
                return (bin as u32, wanted);
            }
            wanted -= count;
        }
        (0, wanted)
    }

    /// The first series that holds something that is not finite.
    fn not_finite(&self) -> Option<usize> {
        let infinite = |counts: &Vec<N>| {
            counts[(INFINITY >> LOW_BITS) as usize..]
                .iter()
                .any(|&count| count.into() > 0)
        };
        self.0.iter().position(infinite)
    }
}

impl Counts<u32> {
    fn join(mut self, other: &Self) -> Self {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine += theirs;
            }
        }
        self
    }
}

impl Counts<u64> {
    /// Adds one series of a tensor's counts to a series of these.
    pub(crate) fn add_series(&mut self, series: usize, tensor: &Counts<u32>, from: usize) {
        for (mine, &theirs) in self.0[series].iter_mut().zip(&tensor.0[from]) {
            *mine += u64::from(theirs);
        }
    }
}

/// Counts the values of one upper bin by their lower bits. Few values are in it, so whole vectors are passed over.
struct CountWithin<'a> {
    values: &'a [f32],
    bin: u32,
    counts: &'a mut [u32],
}

impl WithSimd for CountWithin<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { values, bin, counts } = self;
        let mut count = |values: &[f32]| {
            for &value in values {
                let magnitude = magnitude(value);
                if magnitude >> LOW_BITS == bin {
                    counts[magnitude as usize % LOW_BINS] += 1;
                }
            }
        };
        let upper = simd.splat_u32s(0x7fff_ffff >> LOW_BITS << LOW_BITS);
        let wanted = simd.splat_u32s(bin << LOW_BITS);
        let (vectors, rest) = S::as_simd_f32s(values);
        for (vector, values) in vectors.iter().zip(values.chunks_exact(S::F32_LANES)) {
            let found = simd.equal_u32s(simd.and_u32s(simd.transmute_u32s_f32s(*vector), upper), wanted);
            if simd.first_true_m32s(found) < S::F32_LANES {
                count(values);
            }
        }
        count(rest);
    }
}

/// One wanted rank on its way to a threshold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) series: usize,
    bin: u32,
    wanted: u64,
}

impl Query {
    /// The bin of the `wanted`-th largest entry of a series.
    pub(crate) fn new<N: Copy + Default + Into<u64>>(counts: &Counts<N>, series: usize, wanted: u64) -> Self {
        let (bin, wanted) = counts.descend(series, wanted);
        Self { series, bin, wanted }
    }

    /// The same rank among the values of another series.
    pub(crate) fn of(self, series: usize) -> Self {
        Self { series, ..self }
    }

    /// The threshold, how many entries at it are wanted, and how many there are.
    pub(crate) fn answer<N: Copy + Default + Into<u64>>(&self, low: &Counts<N>, index: usize) -> (u32, u64, u64) {
        let (rest, wanted) = low.descend(index, self.wanted);
        (self.bin << LOW_BITS | rest, wanted, low.0[index][rest as usize].into())
    }
}

/// The upper histograms of a field; fails, naming the series, where something is not finite.
pub(crate) fn count_high(field: &mut Field<'_>, series: &impl Series) -> Result<Counts<u32>, Unranked> {
    let (counts, _) = field.sweep(
        series.with_base(),
        || (Counts::high(series.count()), Vec::new()),
        |(counts, scratch), tile| {
            for (index, counts) in counts.0.iter_mut().enumerate() {
                for &value in series.values(&tile, index, scratch) {
                    counts[(magnitude(value) >> LOW_BITS) as usize] += 1;
                }
            }
            Ok(())
        },
        |(left, scratch), (right, _)| (left.join(&right), scratch),
    )?;
    match counts.not_finite() {
        Some(index) => Err(Unranked::NotFinite(index)),
        None => Ok(counts),
    }
}

/// The lower histograms of a field, one a query.
pub(crate) fn count_low(field: &mut Field<'_>, series: &impl Series, queries: &[Query]) -> Result<Counts<u32>> {
    let (counts, _) = field.sweep(
        series.with_base(),
        || (Counts::low(queries.len()), Vec::new()),
        |(counts, scratch), tile| {
            for (counts, query) in counts.0.iter_mut().zip(queries) {
                Arch::new().dispatch(CountWithin {
                    values: series.values(&tile, query.series, scratch),
                    bin: query.bin,
                    counts,
                });
            }
            Ok(())
        },
        |(left, scratch), (right, _)| (left.join(&right), scratch),
    )?;
    Ok(counts)
}

/// Why ranks could not be found.
#[derive(Debug)]
pub(crate) enum Unranked {
    /// This series holds NaN or infinity.
    NotFinite(usize),
    /// Something could not be read.
    Merge(MergeError),
}

impl From<MergeError> for Unranked {
    fn from(error: MergeError) -> Self {
        Self::Merge(error)
    }
}

/// The largest entries of every series, by magnitude; `wanted` are (series, number of entries). 0 keeps nothing, and
/// a number beyond the entries there are keeps everything.
pub(crate) fn largest(
    field: &mut Field<'_>,
    series: &impl Series,
    wanted: &[(usize, usize)],
) -> Result<Vec<Kept>, Unranked> {
    let high = count_high(field, series)?;
    let entries = field.entries();
    let open = |count: usize| 0 < count && count < entries;
    let queries: Vec<Query> = wanted
        .iter()
        .filter(|(_, count)| open(*count))
        .map(|&(index, count)| Query::new(&high, index, count as u64))
        .collect();
    let low = if queries.is_empty() {
        Counts(Vec::new())
    } else {
        count_low(field, series, &queries)?
    };
    let mut answers = queries.iter().enumerate();
    wanted
        .iter()
        .map(|&(_, count)| {
            if !open(count) {
                return Ok(if count == 0 && entries > 0 {
                    Kept::NONE
                } else {
                    Kept::ALL
                });
            }
            let Some((index, query)) = answers.next() else {
                return Ok(Kept::ALL);
            };
            let (threshold, wanted, tied) = query.answer(&low, index);
            let ties_end = if wanted == tied {
                usize::MAX
            } else {
                end_of_ties(field, series, query.series, threshold, wanted as usize)?
            };
            Ok(Kept { threshold, ties_end })
        })
        .collect()
}

/// The index just behind the `wanted`-th entry of exactly this magnitude.
pub(crate) fn end_of_ties(
    field: &mut Field<'_>,
    series: &impl Series,
    index: usize,
    threshold: u32,
    mut wanted: usize,
) -> Result<usize> {
    let tied = |value: &f32| magnitude(*value) == threshold;
    let counts = field.collect(series.with_base(), |tile| {
        let values = series
            .values(&tile, index, &mut Vec::new())
            .iter()
            .filter(|value| tied(value))
            .count();
        Ok(values)
    })?;
    for (tile, count) in counts.into_iter().enumerate() {
        if wanted <= count {
            return field.one(tile, series.with_base(), |tile| {
                let mut scratch = Vec::new();
                let mut values = series.values(&tile, index, &mut scratch).iter().enumerate();
                let last = values
                    .by_ref()
                    .filter(|(_, value)| tied(value))
                    .nth(wanted.saturating_sub(1));
                Ok(last.map_or(usize::MAX, |(offset, _)| tile.start() + offset + 1))
            });
        }
        wanted -= count;
    }
    Ok(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail loudly")]
    use proptest::prelude::*;

    use super::*;
    use crate::tiles::{Room, Rows, View};

    /// Values in memory, as a field's only input.
    struct Values<'a>(&'a [f32], usize);

    impl Rows for Values<'_> {
        fn view(&self) -> View {
            View::Change
        }

        fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
            out.copy_from_slice(&self.0[rows.start * self.1..rows.end * self.1]);
            Ok(())
        }
    }

    /// The largest entries of one series; `None` when something is not finite.
    fn largest(values: &[f32], count: usize) -> Option<Kept> {
        let columns = if values.len().is_multiple_of(1 << 15) {
            1 << 15
        } else {
            values.len().max(1)
        };
        let source = Values(values, columns);
        let shape = [values.len() / columns, columns];
        let inputs: Vec<Box<dyn Rows>> = vec![Box::new(Values(values, columns))];
        let mut room = Room::shared(usize::MAX);
        let mut field = Field::new(&shape, View::Change, &source, inputs, &mut room);
        match super::largest(&mut field, &Inputs(1), &[(0, count)]) {
            Ok(kept) => Some(kept[0]),
            Err(Unranked::NotFinite(0)) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// The indices kept, by applying the rule entry by entry.
    fn indices(kept: &Kept, values: &[f32]) -> Vec<usize> {
        (0..values.len())
            .filter(|&at| {
                let kept_by_rule = kept.keeps(at, values[at]);
                assert_eq!(kept_by_rule, magnitude(values[at]) >= kept.least(&(at..at + 1)));
                kept_by_rule
            })
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
        const PIECE: usize = 1 << 17;
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
