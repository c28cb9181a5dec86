//! Exact order statistics by magnitude in O(n): which entries of a tensor trimming keeps.
//!
//! |x| read as an integer orders like |x|, so two histograms find the k-th largest magnitude: one over the upper 16
//! of its 31 bits, one over the lower 15 of the entries in the bin that holds it. In a large tensor a sample narrows the
//! range, and one sweep is enough (`bracket`). The answer is a threshold that every later pass can apply on its own.
//! Ties at the threshold go to the lowest index. All inputs of a tensor, and all ranks wanted of each, share the sweeps.

mod bracket;
mod counts;

use std::ops::Range;

use crate::tiles::{TensorTiles, Tile};
use crate::{MergeError, Result};

/// A threshold, how many entries at it are wanted, and how many there are.
type Answer = (u32, u64, u64);

pub(crate) use counts::{Counts, Query, count_high, count_low};

/// The magnitude of `value` as an integer that orders like it.
#[inline(always)]
pub(crate) fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// Which entries of a tensor are kept: those above a magnitude, and the first few exactly at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopKMask {
    /// The k-th largest magnitude.
    threshold: u32,
    /// Entries at the threshold are kept below this index only.
    ties_end: usize,
}

impl TopKMask {
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
    /// [`TopKMask::cut`] first.
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

    /// Where within `range` the least magnitude kept changes, if it does.
    pub(crate) fn cut(&self, range: &Range<usize>) -> Option<usize> {
        (range.start < self.ties_end && self.ties_end < range.end).then_some(self.ties_end)
    }
}

/// The values whose magnitudes are ranked: those of an input, or computed from several.
pub(crate) trait Series: Sync {
    /// How many series there are.
    fn count(&self) -> usize;

    /// Whether the values depend on the base.
    fn with_base(&self) -> bool {
        false
    }

    /// One series' values in a tile; `scratch` may be used to compute them.
    fn values<'s>(&self, tile: &'s Tile<'_>, index: usize, scratch: &'s mut Vec<f32>) -> &'s [f32];
}

/// Each input as a series.
#[derive(Debug)]
pub(crate) struct EachInput(pub(crate) usize);

impl Series for EachInput {
    fn count(&self) -> usize {
        self.0
    }

    fn values<'s>(&self, tile: &'s Tile<'_>, index: usize, _: &'s mut Vec<f32>) -> &'s [f32] {
        tile.inputs[index]
    }
}

/// Why ranks could not be found.
#[derive(Debug)]
pub(crate) enum RankError {
    /// This series holds NaN or infinity.
    NotFinite(usize),
    /// Something could not be read.
    Merge(MergeError),
}

impl From<MergeError> for RankError {
    fn from(error: MergeError) -> Self {
        Self::Merge(error)
    }
}

/// The largest entries of every series, by magnitude; `wanted` are (series, number of entries). 0 keeps nothing, and
/// a number beyond the entries there are keeps everything.
pub(crate) fn largest(
    tensor: &mut TensorTiles<'_>,
    series: &impl Series,
    wanted: &[(usize, usize)],
) -> Result<Vec<TopKMask>, RankError> {
    let entries = tensor.entries();
    let open: Vec<(usize, usize)> = wanted
        .iter()
        .copied()
        .filter(|&(_, count)| 0 < count && count < entries)
        .collect();
    let mut answers = thresholds(tensor, series, &open)?.into_iter();
    wanted
        .iter()
        .map(|&(index, count)| match count {
            0 if entries > 0 => Ok(TopKMask::NONE),
            _ if count >= entries => Ok(TopKMask::ALL),
            _ => {
                let Some((threshold, wanted, tied)) = answers.next() else {
                    return Ok(TopKMask::ALL);
                };
                let ties_end = if wanted == tied {
                    usize::MAX
                } else {
                    end_of_ties(tensor, series, index, threshold, wanted as usize)?
                };
                Ok(TopKMask { threshold, ties_end })
            }
        })
        .collect()
}

/// The thresholds of ranks that are neither none nor all; fails, naming the series, where something is not finite.
fn thresholds(
    tensor: &mut TensorTiles<'_>,
    series: &impl Series,
    wanted: &[(usize, usize)],
) -> Result<Vec<Answer>, RankError> {
    let settled = bracket::settle(tensor, series, wanted)?;
    let settled = settled.unwrap_or_else(|| vec![None; wanted.len()]);
    if !wanted.is_empty() && settled.iter().all(Option::is_some) {
        return Ok(settled.into_iter().flatten().collect());
    }
    let high = count_high(tensor, series)?;
    let queries: Vec<Query> = wanted
        .iter()
        .zip(&settled)
        .filter(|(_, settled)| settled.is_none())
        .map(|(&(index, count), _)| Query::new(&high, index, count as u64))
        .collect();
    let low = match queries.is_empty() {
        true => Counts::low(0),
        false => count_low(tensor, series, &queries)?,
    };
    let mut counted = queries
        .iter()
        .enumerate()
        .map(|(index, query)| query.answer(&low, index));
    Ok(settled
        .into_iter()
        .filter_map(|settled| settled.or_else(|| counted.next()))
        .collect())
}

/// The index after the `wanted`-th entry of exactly this magnitude.
pub(crate) fn end_of_ties(
    tensor: &mut TensorTiles<'_>,
    series: &impl Series,
    index: usize,
    threshold: u32,
    mut wanted: usize,
) -> Result<usize> {
    let tied = |value: &f32| magnitude(*value) == threshold;
    let counts = tensor.collect(series.with_base(), |tile| {
        let values = series
            .values(&tile, index, &mut Vec::new())
            .iter()
            .filter(|value| tied(value))
            .count();
        Ok(values)
    })?;
    for (tile, count) in counts.into_iter().enumerate() {
        if wanted <= count {
            return tensor.one(tile, series.with_base(), |tile| {
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
    use crate::tiles::{Representation, RowSource, Workspace};

    /// Values in memory, as a tensor's only input.
    struct Values<'a>(&'a [f32], usize);

    impl RowSource for Values<'_> {
        fn representation(&self) -> Representation {
            Representation::Change
        }

        fn read(&self, rows: Range<usize>, _: &[f32], out: &mut [f32]) -> Result<()> {
            out.copy_from_slice(&self.0[rows.start * self.1..rows.end * self.1]);
            Ok(())
        }
    }

    /// The largest entries of one series; `None` when something is not finite.
    fn largest(values: &[f32], count: usize) -> Option<TopKMask> {
        let columns = if values.len().is_multiple_of(1 << 15) {
            1 << 15
        } else {
            values.len().max(1)
        };
        let source = Values(values, columns);
        let shape = [values.len() / columns, columns];
        let inputs: Vec<Box<dyn RowSource>> = vec![Box::new(Values(values, columns))];
        let mut workspace = Workspace::shared(usize::MAX);
        let mut tensor = TensorTiles::new(&shape, Representation::Change, &source, inputs, &mut workspace);
        match super::largest(&mut tensor, &EachInput(1), &[(0, count)]) {
            Ok(kept) => Some(kept[0]),
            Err(RankError::NotFinite(0)) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// The indices kept, by applying the rule entry by entry.
    fn indices(kept: &TopKMask, values: &[f32]) -> Vec<usize> {
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
        assert_eq!(largest(&values, 6), Some(TopKMask::ALL));
        assert_eq!(largest(&[], 0), Some(TopKMask::ALL));
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

    /// Values of a tensor large enough for a sample, [1024, 1024]; row r is multiplied by `scale(r)`.
    fn large(scale: impl Fn(usize) -> f32) -> Vec<f32> {
        let draw = |at: usize| {
            let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..1 << 20).map(|at| draw(at) * scale(at >> 10)).collect()
    }

    /// The threshold by sorting, and what stays of it.
    fn check_large(values: &[f32]) {
        let mut sorted: Vec<u32> = values.iter().map(|&value| magnitude(value)).collect();
        sorted.sort_unstable_by_key(|&magnitude| std::cmp::Reverse(magnitude));
        let inputs: Vec<Box<dyn RowSource>> =
            vec![Box::new(Values(values, 1 << 10)), Box::new(Values(values, 1 << 10))];
        let source = Values(values, 1 << 10);
        let mut workspace = Workspace::shared(usize::MAX);
        let mut tensor = TensorTiles::new(
            &[1 << 10, 1 << 10],
            Representation::Change,
            &source,
            inputs,
            &mut workspace,
        );
        let counts = [1, 1 << 10, 209_715, 838_861, (1 << 20) - 1];
        let wanted: Vec<(usize, usize)> = counts.iter().enumerate().map(|(at, &count)| (at % 2, count)).collect();
        let kept = super::largest(&mut tensor, &EachInput(2), &wanted).unwrap();
        for (kept, count) in kept.iter().zip(counts) {
            assert_eq!(kept.threshold, sorted[count - 1]);
            let number = values
                .iter()
                .enumerate()
                .filter(|&(at, &value)| kept.keeps(at, value))
                .count();
            assert_eq!(number, count);
        }
    }

    /// Rows that are alike, unlike, sparse, of few values, and alike but where the sample looks: the way to the
    /// threshold differs, the threshold does not.
    #[test]
    fn large_tensors_equal_a_sort() {
        check_large(&large(|_| 1.0));
        check_large(&large(|row| (row as f32 / 100.0).exp()));
        check_large(&large(|row| if row % 50 == 0 { 1.0 } else { 0.0 }));
        check_large(&large(|row| if (29..35).contains(&(row % 64)) { 0.1 } else { 1.0 }));
        let few: Vec<f32> = large(|_| 4.0).iter().map(|value| value.round()).collect();
        check_large(&few);
    }

    #[test]
    fn a_large_tensor_with_something_infinite_is_refused() {
        let mut values = large(|_| 1.0);
        values[777_777] = f32::NEG_INFINITY;
        let inputs: Vec<Box<dyn RowSource>> =
            vec![Box::new(Values(&values, 1 << 10)), Box::new(Values(&values, 1 << 10))];
        let source = Values(&values, 1 << 10);
        let mut workspace = Workspace::shared(0);
        let mut tensor = TensorTiles::new(
            &[1 << 10, 1 << 10],
            Representation::Change,
            &source,
            inputs,
            &mut workspace,
        );
        for wanted in [vec![], vec![(1, 100)], vec![(0, 100), (1, 5)]] {
            let refused = super::largest(&mut tensor, &EachInput(2), &wanted);
            assert!(matches!(refused, Err(RankError::NotFinite(0))), "{refused:?}");
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
