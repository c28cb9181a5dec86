//! The two histograms that find a rank: of the upper bits of all magnitudes, and of the lower bits of those in one bin.

use pulp::{Arch, Simd, WithSimd};

use super::{RankError, Series, magnitude};
use crate::Result;
use crate::tiles::TensorTiles;

/// Low bits left to the second histogram.
const LOW_BITS: u32 = 15;
/// Bins of the first histogram, over the upper 16 of 31 bits.
const HIGH_BINS: usize = 1 << 16;
/// Bins of the second.
const LOW_BINS: usize = 1 << LOW_BITS;
/// Bit pattern of infinity: from here on magnitudes are infinite or NaN.
pub(super) const INFINITY: u32 = 0x7f80_0000;

/// Histograms of series, one each: of u32 within a tensor, whose entries fit and whose bins then stay in the cache, of
/// u64 across tensors.
#[derive(Clone, Debug)]
pub(crate) struct Counts<N>(Vec<Vec<N>>);

impl<N: Copy + Default + Into<u64>> Counts<N> {
    /// Empty histograms of `series` series.
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

    /// The first series with a value that is not finite.
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

/// One wanted rank whose bin is known.
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

/// The upper histograms of a tensor; fails, naming the series, where something is not finite.
pub(crate) fn count_high(tensor: &mut TensorTiles<'_>, series: &impl Series) -> Result<Counts<u32>, RankError> {
    let (counts, _) = tensor.sweep(
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
        Some(index) => Err(RankError::NotFinite(index)),
        None => Ok(counts),
    }
}

/// The lower histograms of a tensor, one per query.
pub(crate) fn count_low(tensor: &mut TensorTiles<'_>, series: &impl Series, queries: &[Query]) -> Result<Counts<u32>> {
    let (counts, _) = tensor.sweep(
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
