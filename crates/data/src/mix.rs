//! Reads the sources, holds rows out, and mixes the training rows as the recipe asks.

use std::collections::HashSet;

use synapse_recipe::Samples;

use crate::apportion::{Quota, apportion_held_out, apportion_rest};
use crate::collect::{Collected, Filters, RankedRow, collect};
use crate::provenance::{Origin, SampledRow};
use crate::request::{PrepareEvent, PrepareRequest, SourceFiles};
use crate::routing::{self, PromptKind};
use crate::row::{Fingerprint, Row};
use crate::source::{ReferencedRequests, Source};
use crate::{DataError, Result};

/// The sources of one recipe, from files to selected rows.
pub(crate) struct Preparation<'a> {
    pub(crate) request: &'a PrepareRequest<'a>,
    pub(crate) progress: &'a dyn Fn(PrepareEvent),
    pub(crate) sources: Vec<Source<'a>>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Preparation<'a> {
    /// Checks the request. `requests` has one entry for each source, empty where it is not generated.
    pub(crate) fn new(
        request: &'a PrepareRequest<'a>,
        requests: Vec<ReferencedRequests>,
        progress: &'a dyn Fn(PrepareEvent),
    ) -> Result<Self> {
        let (plan, files) = (request.plan, &request.files);
        if plan.sources.len() != files.len() {
            return Err(DataError::Request(format!(
                "the plan has {} sources and files were given for {}",
                plan.sources.len(),
                files.len()
            )));
        }
        if request.train.max_seq_len < 2 {
            return Err(DataError::Request("max_seq_len must be at least 2".to_owned()));
        }
        if let (Some(source), None) = (
            plan.sources.iter().find(|source| source.samples == Samples::Rest),
            plan.total,
        ) {
            return Err(DataError::Request(format!(
                "{}: `samples: rest` needs a `total`",
                source.dataset
            )));
        }
        let sources = plan.sources.iter().zip(files).zip(requests);
        let sources = sources.map(|((plan, files), requests)| Source::new(plan, files, requests));
        Ok(Self {
            request,
            progress,
            sources: sources.collect(),
            warnings: Vec::new(),
        })
    }

    pub(crate) fn warn(&mut self, warning: String) {
        (self.progress)(PrepareEvent::Warning(warning.clone()));
        self.warnings.push(warning);
    }

    /// Reads the sources, drops what the plan excludes, and selects training and held-out rows.
    pub(crate) fn select(&mut self) -> Result<()> {
        self.collect()?;
        self.deduplicate()?;
        self.split()
    }

    /// Reads every source that has files.
    fn collect(&mut self) -> Result<()> {
        let plan = self.request.plan;
        let filters = Filters {
            seed: plan.seed,
            min_chars: plan.min_chars,
            max_chars: plan.max_chars,
            dedupe: plan.dedupe,
        };
        let mut seen = HashSet::new();
        for source in &mut self.sources {
            if source.is_generated() {
                continue;
            }
            let dataset = source.plan.dataset.clone();
            (self.progress)(PrepareEvent::Reading {
                dataset: dataset.clone(),
            });
            if source.files.files.is_empty() {
                return Err(DataError::Request(format!("{dataset}: no files")));
            }
            // Rows to sample, rows to hold out, and rows that may equal a held-out row.
            let most = source.asked().or(if source.is_rest() { plan.total } else { None });
            // Deduplication drops more.
            let spare = most.filter(|_| plan.near_duplicates.is_some() || plan.decontaminate);
            let most = most.map(|most| most.saturating_add(spare.unwrap_or(0)));
            let capacity = most.and_then(|most| usize::try_from(most + 2 * plan.held_out + 256).ok());
            source.collected = collect(source.plan, source.files, filters, capacity, &mut seen)?;
            if let Some(path) = &source.plan.held_out_file {
                let files = SourceFiles::local(path)?;
                let rows = collect(source.plan, &files, filters, None, &mut HashSet::new())?;
                source.held_out_source = files.files.into_iter().next().map(|file| (file, rows));
            }
            let Collected {
                read: rows, available, ..
            } = source.collected;
            (self.progress)(PrepareEvent::Read {
                dataset,
                rows,
                available,
            });
        }
        Ok(())
    }

    /// Selects held-out rows and training rows.
    fn split(&mut self) -> Result<()> {
        let plan = self.request.plan;
        let expected = self.expected_rows();
        let quotas: Vec<Quota> = self
            .sources
            .iter()
            .zip(&expected)
            .map(|(source, &rows)| Quota {
                rows,
                most: match &source.held_out_source {
                    Some((_, rows)) => rows.available,
                    None if source.is_generated() => u64::MAX,
                    None => source.collected.available / 2,
                },
            })
            .collect();
        let held_out = apportion_held_out(plan.held_out, &quotas);
        let found: u64 = held_out.iter().sum();
        if found < plan.held_out {
            self.warn(format!(
                "held out: {} rows were asked for and {found} can be spared",
                plan.held_out
            ));
        }
        let mut prompts: HashSet<Fingerprint> = HashSet::new();
        for (source, count) in self.sources.iter_mut().zip(held_out) {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            source.held_out = if source.is_generated() {
                generated(routing::held_out_rows(count, plan.seed, &source.requests.requests)?)
            } else {
                let candidates = match &mut source.held_out_source {
                    Some((_, rows)) => &mut rows.candidates,
                    None => &mut source.collected.candidates,
                };
                candidates
                    .drain(..count.min(candidates.len()))
                    .map(|candidate| candidate.sampled)
                    .collect()
            };
            prompts.extend(source.held_out.iter().map(|sampled| sampled.row.prompt_fingerprint()));
        }
        let overlaps = self.held_out_prompts();
        for source in &mut self.sources {
            let candidates = std::mem::take(&mut source.collected.candidates);
            for RankedRow { sampled, .. } in candidates {
                let place = Origin::describe(sampled.origin, source.files);
                if prompts.contains(&sampled.row.prompt_fingerprint()) {
                    source.collected.drop_row("equals_held_out", place);
                } else if let Some(shared) = sampled.row.prompts().find_map(|prompt| overlaps.shared(prompt)) {
                    let place = format!("{place}: {shared}");
                    source.collected.drop_row("overlaps_held_out", place);
                } else {
                    source.train.push(sampled);
                }
            }
        }
        self.truncate(&prompts)
    }

    /// Rows that each source would give to training if none were held out.
    fn expected_rows(&self) -> Vec<u64> {
        let mut expected: Vec<u64> = self
            .sources
            .iter()
            .map(|source| match (source.asked(), source.is_rest()) {
                (Some(asked), _) if source.is_generated() => asked,
                (Some(asked), _) => asked.min(source.collected.available),
                (None, true) => 0,
                (None, false) => source.collected.available,
            })
            .collect();
        let available = self
            .sources
            .iter()
            .map(|source| source.collected.available)
            .collect::<Vec<_>>();
        self.fill_rest(&mut expected, &available);
        expected
    }

    /// Adds the rows of the sources with `samples: rest`, up to the total.
    fn fill_rest(&self, counts: &mut [u64], available: &[u64]) {
        let rest: Vec<usize> = (0..counts.len())
            .filter(|&index| self.sources[index].is_rest())
            .collect();
        let missing = match self.request.plan.total {
            Some(total) => total.saturating_sub(counts.iter().sum()),
            None => u64::MAX,
        };
        let can_give: Vec<u64> = rest
            .iter()
            .map(|&index| {
                if self.sources[index].is_generated() {
                    missing
                } else {
                    available[index]
                }
            })
            .collect();
        for (index, rows) in rest.iter().zip(apportion_rest(missing, &can_give)) {
            counts[*index] = rows;
        }
    }

    /// Truncates each source's training rows to the number that the recipe asks for.
    fn truncate(&mut self, held_out_prompts: &HashSet<Fingerprint>) -> Result<()> {
        let plan = self.request.plan;
        let available: Vec<u64> = self.sources.iter().map(|source| source.train.len() as u64).collect();
        let mut counts: Vec<u64> = Vec::with_capacity(available.len());
        for (index, &found) in available.iter().enumerate() {
            let source = &self.sources[index];
            let rows = match source.asked() {
                Some(asked) if source.is_generated() => asked,
                Some(asked) if asked > found => {
                    let dataset = source.plan.dataset.clone();
                    if plan.strict {
                        return Err(DataError::TooFewRows { dataset, asked, found });
                    }
                    let mut dropped = source.collected.drops();
                    if found == 0
                        && let Some(example) = source.collected.example()
                    {
                        dropped.push_str(&format!("; such as {example}"));
                    }
                    if !dropped.is_empty() {
                        dropped = format!(" (dropped: {dropped})");
                    }
                    self.warn(format!(
                        "{dataset}: {asked} rows were asked for and all {found} are taken{dropped}"
                    ));
                    found
                }
                Some(asked) => asked,
                None if source.is_rest() => 0,
                None => found,
            };
            counts.push(rows);
        }
        self.fill_rest(&mut counts, &available);
        if let Some(total) = plan.total {
            let sum: u64 = counts.iter().sum();
            if sum != total && plan.strict {
                return Err(DataError::TooFewRows {
                    dataset: "total".to_owned(),
                    asked: total,
                    found: sum,
                });
            }
            if sum != total {
                self.warn(format!("total: {total} rows were asked for and {sum} are taken"));
            }
        }
        for (source, count) in self.sources.iter_mut().zip(counts) {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if source.is_generated() {
                source.train = generated(routing::rows(
                    count,
                    plan.seed,
                    &source.requests.requests,
                    held_out_prompts,
                )?);
                source.collected.read = count as u64;
                source.collected.available = count as u64;
            } else {
                source.train.truncate(count);
            }
        }
        Ok(())
    }
}

fn generated(rows: Vec<(Row, PromptKind)>) -> Vec<SampledRow> {
    let sampled = |(row, kind)| SampledRow {
        row,
        origin: None,
        kind: Some(kind),
    };
    rows.into_iter().map(sampled).collect()
}
