//! Reads one source: normalizes, filters, drops duplicates, and keeps the first rows in the seeded order.
//!
//! Rows are ordered by a hash of seed and content. So a sample does not depend on the order of a file, and a source of
//! any size needs memory only for the rows that are kept.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashSet};

use synapse_recipe::{Format, SourcePlan};

use crate::format::{Normalizer, Refused};
use crate::provenance::{Origin, SampledRow};
use crate::read::{RowFile, Wanted};
use crate::row::Fingerprint;
use crate::{DataError, Result, SourceFiles};

/// Which rows of a source are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filters {
    pub(crate) seed: u64,
    pub(crate) min_chars: usize,
    pub(crate) max_chars: Option<usize>,
    pub(crate) dedupe: bool,
}

/// A row that may be sampled. Ordered by priority, then by position in the file.
#[derive(Debug)]
pub(crate) struct RankedRow {
    priority: u64,
    order: u64,
    pub(crate) sampled: SampledRow,
}

impl PartialEq for RankedRow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for RankedRow {}

impl PartialOrd for RankedRow {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RankedRow {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.priority, self.order).cmp(&(other.priority, other.order))
    }
}

/// The rows and counts of one source.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// The first rows in the seeded order.
    pub(crate) candidates: Vec<RankedRow>,
    /// Rows that passed, kept or not.
    pub(crate) available: u64,
    pub(crate) read: u64,
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    /// Places of the first rows dropped, by reason.
    pub(crate) examples: BTreeMap<&'static str, Vec<String>>,
    pub(crate) format: Option<Format>,
    /// Columns that no field of the format takes, and keys of turns that are not read.
    pub(crate) unused_columns: BTreeSet<String>,
}

/// Examples kept for each reason.
const EXAMPLES: usize = 3;

impl Collected {
    /// The dropped rows by reason, as text.
    pub(crate) fn drops(&self) -> String {
        let drops = self.dropped.iter();
        let words = drops.map(|(reason, count)| format!("{} {count}", reason.replace('_', " ")));
        words.collect::<Vec<_>>().join(", ")
    }

    /// The place of the first row dropped for the commonest reason.
    pub(crate) fn example(&self) -> Option<&str> {
        let (reason, _) = self.dropped.iter().max_by_key(|(_, count)| **count)?;
        self.examples.get(reason)?.first().map(String::as_str)
    }

    /// Counts a dropped row, and keeps the places of the first few.
    pub(crate) fn drop_row(&mut self, reason: &'static str, place: impl std::fmt::Display) {
        *self.dropped.entry(reason).or_default() += 1;
        let examples = self.examples.entry(reason).or_default();
        if examples.len() < EXAMPLES {
            examples.push(place.to_string());
        }
    }
}

/// Reads the files of a source and keeps at most `capacity` rows. `seen` is shared by the sources of a recipe: a row
/// that an earlier source has too is a duplicate.
pub(crate) fn collect(
    source: &SourcePlan,
    files: &SourceFiles,
    filters: Filters,
    capacity: Option<usize>,
    seen: &mut HashSet<Fingerprint>,
) -> Result<Collected> {
    let mut collected = Collected::default();
    let mut kept: BinaryHeap<RankedRow> = BinaryHeap::new();
    let mut left = files.first_rows;
    for (index, file) in files.files.iter().enumerate() {
        let file = RowFile {
            path: &file.local,
            name: &file.name,
            most: left,
        };
        let before = collected.read;
        let available = file.columns()?;
        if available.is_empty() {
            continue;
        }
        let normalizer =
            Normalizer::detect(&available, source.format, &source.map).map_err(|message| DataError::Columns {
                dataset: format!("{} ({})", source.dataset, file.name),
                message,
            })?;
        collected.format = Some(normalizer.format);
        let used = normalizer.columns();
        let unused = available.iter().filter(|column| !used.contains(column));
        collected.unused_columns.extend(unused.cloned());
        file.read(Wanted::Columns(&used), &mut |place, record| {
            collected.read += 1;
            collected.unused_columns.extend(normalizer.unread_keys(&record));
            let row = match normalizer.row(&record) {
                Ok(row) => row,
                Err(Refused::Malformed(message)) => {
                    return Err(DataError::malformed(&place, message));
                }
                Err(Refused::Dropped(reason)) => {
                    collected.drop_row(reason, place);
                    return Ok(());
                }
            };
            let chars = row.chars();
            let fingerprint = row.fingerprint();
            if chars < filters.min_chars {
                collected.drop_row("too_short", place);
            } else if filters.max_chars.is_some_and(|most| chars > most) {
                collected.drop_row("too_long", place);
            } else if filters.dedupe && !seen.insert(fingerprint) {
                collected.drop_row("duplicate", place);
            } else {
                collected.available += 1;
                let priority = fingerprint.priority(filters.seed);
                kept.push(RankedRow {
                    priority,
                    order: collected.available,
                    sampled: SampledRow {
                        row,
                        origin: Some(Origin {
                            file: index,
                            number: place.number,
                            lines: place.lines,
                        }),
                        kind: None,
                    },
                });
                if capacity.is_some_and(|capacity| kept.len() > capacity) {
                    kept.pop();
                }
            }
            Ok(())
        })?;
        left = left.map(|left| left.saturating_sub(collected.read - before));
    }
    collected.candidates = kept.into_sorted_vec();
    Ok(collected)
}
