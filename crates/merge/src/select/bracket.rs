//! A rank found in one sweep: a sample of rows gives a bracket of magnitudes, the sweep counts the entries above it and
//! collects those within, and if the rank is among them, it is exact.
//!
//! The sample only decides how much work it is. Where it guessed wrong, the answer is `None`, and the histograms find
//! the same threshold in two sweeps.

use std::ops::{Range, RangeInclusive};

use synapse_kernels::selection::BracketCounts;

use super::counts::INFINITY;
use super::{Answer, RankError, Series, magnitude};
use crate::tiles::TensorTiles;

/// Fewest entries of a tensor for which sampling pays off.
const WORTH: usize = 1 << 20;
/// Groups of neighboring rows that are sampled, spread evenly over the tensor.
const GROUPS: usize = 16;
/// Rows of a group: the number that a low-rank product computes at once.
const GROUP_ROWS: usize = 6;
/// Sampled entries of a group, at most.
const GROUP_SAMPLE: usize = 1 << 11;
/// Half a bracket's width in standard errors of the sampled share; at four, one guess in thousands is wrong.
const STANDARD_ERRORS: f64 = 4.0;
/// Half a bracket's width as a share of all entries, at most: what is within has to be kept in memory.
const MOST: f64 = 0.04;

/// Finds the `wanted` ranks, (series, number of entries), in one sweep; `None` for each that the sample misplaced, and
/// for all where a tensor is small or its rows are too unlike for a sample.
pub(super) fn settle(
    tensor: &mut TensorTiles<'_>,
    series: &impl Series,
    wanted: &[(usize, usize)],
) -> Result<Option<Vec<Option<Answer>>>, RankError> {
    if tensor.entries() < WORTH || wanted.is_empty() {
        return Ok(None);
    }
    let Some(groups) = groups(tensor.rows()) else {
        return Ok(None);
    };
    let samples = sample(tensor, series, &groups)?;
    let entries = tensor.entries();
    let brackets: Option<Vec<_>> = wanted
        .iter()
        .map(|&(index, count)| bracket(&samples[index], count as f64 / entries as f64))
        .collect();
    let Some(brackets) = brackets else {
        return Ok(None);
    };
    let found = sweep(tensor, series, wanted, &brackets)?;
    let answers = found.into_iter().zip(wanted);
    Ok(Some(
        answers
            .map(|(found, &(_, count))| answer(found, count as u64))
            .collect(),
    ))
}

/// The groups of rows that are sampled; none where they would be most of the tensor.
fn groups(rows: usize) -> Option<Vec<Range<usize>>> {
    let apart = rows / GROUPS;
    (apart >= 4 * GROUP_ROWS).then(|| {
        let starts = (0..GROUPS).map(|group| group * apart + (apart - GROUP_ROWS) / 2);
        starts.map(|start| start..start + GROUP_ROWS).collect()
    })
}

/// Some magnitudes of every series, by group.
fn sample(
    tensor: &TensorTiles<'_>,
    series: &impl Series,
    groups: &[Range<usize>],
) -> Result<Vec<Vec<Vec<u32>>>, RankError> {
    let step = (GROUP_ROWS * tensor.columns()).div_ceil(GROUP_SAMPLE);
    // A step that shares a factor with the row length would visit the same few columns again and again.
    let step = step | 1;
    let mut samples = vec![Vec::new(); series.count()];
    for rows in groups {
        tensor.some(rows.clone(), series.with_base(), |tile| {
            let mut scratch = Vec::new();
            for (index, sample) in samples.iter_mut().enumerate() {
                let values = series.values(&tile, index, &mut scratch).iter().step_by(step);
                sample.push(values.map(|&value| magnitude(value)).collect());
            }
            Ok(())
        })?;
    }
    Ok(samples)
}

/// The bracket of the magnitude that `share` of all entries reach; `None` where the sample
/// leaves more than can be kept.
fn bracket(groups: &[Vec<u32>], share: f64) -> Option<RangeInclusive<u32>> {
    let mut all = groups.concat();
    let guess = at_share(&mut all, share)?;
    // The shares of the groups vary by chance within rows and by the rows themselves; the mean's error holds both.
    let shares = groups.iter().map(|group| {
        let above = group.iter().filter(|&&magnitude| magnitude >= guess).count();
        above as f64 / group.len() as f64
    });
    let variance = shares.map(|above| (above - share).powi(2)).sum::<f64>() / (groups.len() - 1) as f64;
    let error = (variance / groups.len() as f64).sqrt();
    let half = STANDARD_ERRORS * error + 2.0 / all.len() as f64;
    (half <= MOST).then_some(())?;
    let high = at_share(&mut all, share - half).unwrap_or(u32::MAX >> 1);
    let low = at_share(&mut all, share + half).unwrap_or(0);
    Some(low..=high)
}

/// The magnitude that `share` of the sampled ones reach; `None` below the first and behind the last.
fn at_share(sample: &mut [u32], share: f64) -> Option<u32> {
    let rank = share * sample.len() as f64;
    if !(0.0..sample.len() as f64).contains(&rank) {
        return None;
    }
    let at = sample.len() - 1 - rank as usize;
    Some(*sample.select_nth_unstable(at).1)
}

/// The entries above and within the brackets; fails, naming the series, where something is not finite.
fn sweep(
    tensor: &mut TensorTiles<'_>,
    series: &impl Series,
    wanted: &[(usize, usize)],
    brackets: &[RangeInclusive<u32>],
) -> Result<Vec<BracketCounts>, RankError> {
    // A series of which no rank is wanted is still checked for values that are not finite.
    let unwanted = (0..series.count()).filter(|index| wanted.iter().all(|(other, _)| other != index));
    let nowhere = u32::MAX..=u32::MAX;
    let searches: Vec<(usize, &RangeInclusive<u32>)> = wanted
        .iter()
        .map(|&(index, _)| index)
        .zip(brackets)
        .chain(unwanted.map(|index| (index, &nowhere)))
        .collect();
    let (mut found, _) = tensor.sweep(
        series.with_base(),
        || (vec![BracketCounts::default(); searches.len()], Vec::new()),
        |(found, scratch), tile| {
            for (found, &(index, bracket)) in found.iter_mut().zip(&searches) {
                found.add(series.values(&tile, index, scratch), bracket);
            }
            Ok(())
        },
        |(mut left, scratch), (right, _)| {
            left.iter_mut().zip(right).for_each(|(left, right)| left.join(right));
            (left, scratch)
        },
    )?;
    let infinite = found
        .iter()
        .zip(&searches)
        .filter(|(found, _)| found.largest >= INFINITY);
    match infinite.map(|(_, &(index, _))| index).min() {
        Some(index) => Err(RankError::NotFinite(index)),
        None => {
            found.truncate(wanted.len());
            Ok(found)
        }
    }
}

/// The `wanted`-th largest magnitude, if it is within the bracket.
fn answer(mut found: BracketCounts, wanted: u64) -> Option<Answer> {
    let inside = wanted.checked_sub(found.above)?;
    let at = found.within.len().checked_sub(usize::try_from(inside).ok()?)?;
    if inside == 0 {
        return None;
    }
    let (_, &mut threshold, larger) = found.within.select_nth_unstable(at);
    // Behind the position stand inside − 1 magnitudes that are at least as large; some of them may tie.
    let above = larger.iter().filter(|&&magnitude| magnitude > threshold).count() as u64;
    let tied = found.within.iter().filter(|&&magnitude| magnitude == threshold).count() as u64;
    Some((threshold, inside - above, tied))
}
