//! Which rows are trained on and which are held out: reads the sources and mixes them as the recipe asks.

use std::collections::HashSet;

use synapse_recipe::{Location, Samples, SourcePlan};

use crate::allot::{self, Share};
use crate::collect::{Candidate, Collected, Filters, collect};
use crate::manifest::RequestsManifest;
use crate::origin::{Origin, Taken};
use crate::request::{PrepareEvent, PrepareRequest, SourceFile, SourceFiles};
use crate::routing::{self, Kind, Requests};
use crate::row::{Fingerprint, Row};
use crate::{DataError, Result, prompts};

/// A source on its way.
pub(crate) struct Source<'a> {
    pub(crate) plan: &'a SourcePlan,
    pub(crate) files: &'a SourceFiles,
    pub(crate) collected: Collected,
    /// Rows of its `held_out_file`.
    pub(crate) apart: Option<(SourceFile, Collected)>,
    pub(crate) train: Vec<Taken>,
    pub(crate) held_out: Vec<Taken>,
    /// What generated prompts are made of beside templates, and where that comes from.
    real: Requests,
    pub(crate) requests: Vec<RequestsManifest>,
}

impl Source<'_> {
    pub(crate) fn is_generated(&self) -> bool {
        self.plan.location == Location::Routing
    }

    /// Rows the recipe asks for, if it says a number.
    fn asked(&self) -> Option<u64> {
        match self.plan.samples {
            Samples::Count(count) => Some(count),
            Samples::All if self.is_generated() => Some(routing::DEFAULT_COUNT as u64),
            Samples::All | Samples::Rest => None,
        }
    }

    fn is_rest(&self) -> bool {
        self.plan.samples == Samples::Rest
    }
}

pub(crate) struct Preparation<'a> {
    pub(crate) request: &'a PrepareRequest<'a>,
    pub(crate) progress: &'a dyn Fn(PrepareEvent),
    pub(crate) sources: Vec<Source<'a>>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Preparation<'a> {
    pub(crate) fn new(request: &'a PrepareRequest<'a>, progress: &'a dyn Fn(PrepareEvent)) -> Result<Self> {
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
        let sources = plan.sources.iter().zip(files).map(|(plan, files)| Source {
            plan,
            files,
            collected: Collected::default(),
            apart: None,
            train: Vec::new(),
            held_out: Vec::new(),
            real: Requests::default(),
            requests: Vec::new(),
        });
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

    /// Reads every source that lies in files.
    pub(crate) fn collect(&mut self) -> Result<()> {
        let plan = self.request.plan;
        let filters = Filters {
            seed: plan.seed,
            min_chars: plan.min_chars,
            max_chars: plan.max_chars,
            dedupe: plan.dedupe,
        };
        let mut seen = HashSet::new();
        let mut request_files = self.request.request_files.as_slice();
        for source in &mut self.sources {
            if source.is_generated() {
                let plans = &source.plan.requests;
                let (files, rest) = request_files.split_at(plans.len().min(request_files.len()));
                request_files = rest;
                (source.real, source.requests) = prompts::read(plans, files, self.request, self.progress)?;
                continue;
            }
            let dataset = source.plan.dataset.clone();
            (self.progress)(PrepareEvent::Reading {
                dataset: dataset.clone(),
            });
            if source.files.files.is_empty() {
                return Err(DataError::Request(format!("{dataset}: no files")));
            }
            // What may be taken, plus what may be held out, plus what may turn out to equal a held-out row.
            let most = source.asked().or(if source.is_rest() { plan.total } else { None });
            // Cleaning takes more away.
            let spare = most.filter(|_| plan.near_duplicates.is_some() || plan.decontaminate);
            let most = most.map(|most| most.saturating_add(spare.unwrap_or(0)));
            let capacity = most.and_then(|most| usize::try_from(most + 2 * plan.held_out + 256).ok());
            source.collected = collect(source.plan, source.files, filters, capacity, &mut seen)?;
            if let Some(path) = &source.plan.held_out_file {
                let files = SourceFiles::local(path)?;
                let apart = collect(source.plan, &files, filters, None, &mut HashSet::new())?;
                source.apart = files.files.into_iter().next().map(|file| (file, apart));
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

    /// Decides which rows are held out and which are trained on.
    pub(crate) fn split(&mut self) -> Result<()> {
        let plan = self.request.plan;
        let expected = self.expected_rows();
        let shares: Vec<Share> = self
            .sources
            .iter()
            .zip(&expected)
            .map(|(source, &rows)| Share {
                rows,
                most: match &source.apart {
                    Some((_, apart)) => apart.available,
                    None if source.is_generated() => u64::MAX,
                    None => source.collected.available / 2,
                },
            })
            .collect();
        let held_out = allot::held_out(plan.held_out, &shares);
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
                generated(routing::held_out_rows(count, plan.seed, &source.real)?)
            } else {
                let candidates = match &mut source.apart {
                    Some((_, apart)) => &mut apart.candidates,
                    None => &mut source.collected.candidates,
                };
                candidates
                    .drain(..count.min(candidates.len()))
                    .map(|candidate| candidate.taken)
                    .collect()
            };
            prompts.extend(source.held_out.iter().map(|taken| taken.row.prompt_fingerprint()));
        }
        let overlaps = self.held_out_prompts();
        for source in &mut self.sources {
            let candidates = std::mem::take(&mut source.collected.candidates);
            for Candidate { taken, .. } in candidates {
                let place = Origin::describe(taken.origin, source.files);
                if prompts.contains(&taken.row.prompt_fingerprint()) {
                    source.collected.drop_row("equals_held_out", place);
                } else if let Some(shared) = taken.row.prompts().find_map(|prompt| overlaps.shared(prompt)) {
                    let place = format!("{place}: {shared}");
                    source.collected.drop_row("overlaps_held_out", place);
                } else {
                    source.train.push(taken);
                }
            }
        }
        self.take(&prompts)
    }

    /// Rows each source would give to training if nothing were held out.
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

    /// Gives the sources that take the rest what is missing to the total.
    fn fill_rest(&self, taken: &mut [u64], available: &[u64]) {
        let rest: Vec<usize> = (0..taken.len())
            .filter(|&index| self.sources[index].is_rest())
            .collect();
        let missing = match self.request.plan.total {
            Some(total) => total.saturating_sub(taken.iter().sum()),
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
        for (index, rows) in rest.iter().zip(allot::rest(missing, &can_give)) {
            taken[*index] = rows;
        }
    }

    /// Cuts each source's training rows to what the recipe asks for.
    fn take(&mut self, held_out_prompts: &HashSet<Fingerprint>) -> Result<()> {
        let plan = self.request.plan;
        let available: Vec<u64> = self.sources.iter().map(|source| source.train.len() as u64).collect();
        let mut taken: Vec<u64> = Vec::with_capacity(available.len());
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
            taken.push(rows);
        }
        self.fill_rest(&mut taken, &available);
        if let Some(total) = plan.total {
            let sum: u64 = taken.iter().sum();
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
        for (source, count) in self.sources.iter_mut().zip(taken) {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            if source.is_generated() {
                source.train = generated(routing::rows(count, plan.seed, &source.real, held_out_prompts)?);
                source.collected.read = count as u64;
                source.collected.available = count as u64;
            } else {
                source.train.truncate(count);
            }
        }
        Ok(())
    }
}

fn generated(rows: Vec<(Row, Kind)>) -> Vec<Taken> {
    let taken = |(row, kind)| Taken {
        row,
        origin: None,
        kind: Some(kind),
    };
    rows.into_iter().map(taken).collect()
}
