//! Takes near duplicates and rows that give benchmarks away out of what was read, before anything is held out.
//!
//! Rows are looked at in the seeded order, source by source: of several near duplicates the first stays. Only rows
//! that could be taken are looked at, so the counts of a source of which a sample is taken are those of the sample.

use rayon::prelude::*;

use crate::Result;
use crate::collect::Candidate;
use crate::mix::Preparation;
use crate::near::{NearDuplicates, Signature, signature};
use crate::origin::Origin;
use crate::overlap::{Overlaps, read_texts};
use crate::request::SourceFile;

/// What the rows are held against, looked up side by side.
struct Looked {
    /// The words that are also in a benchmark.
    shared: Option<String>,
    signature: Option<Signature>,
}

impl Preparation<'_> {
    /// Drops what the plan does not want, with its reason.
    pub(crate) fn clean(&mut self) -> Result<()> {
        let plan = self.request.plan;
        let mut benchmarks = Overlaps::default();
        if plan.decontaminate {
            for benchmark in self.request.benchmarks {
                benchmarks.keep_out(&benchmark.name, benchmark.texts.iter().map(String::as_str));
            }
            for path in &plan.benchmarks {
                let file = SourceFile::local(path)?;
                benchmarks.keep_out(&file.name, read_texts(&file)?.iter().map(String::as_str));
            }
        } else if plan.near_duplicates.is_none() {
            return Ok(());
        }
        let mut near = plan.near_duplicates.map(NearDuplicates::new);
        for source in self.sources.iter_mut().filter(|source| !source.is_generated()) {
            let candidates = std::mem::take(&mut source.collected.candidates);
            let look = |candidate: &Candidate| {
                let text = candidate.taken.row.text();
                Looked {
                    shared: benchmarks.shared(&text),
                    signature: near.is_some().then(|| signature(&text)).flatten(),
                }
            };
            let looked: Vec<Looked> = candidates.par_iter().map(look).collect();
            for (candidate, looked) in candidates.into_iter().zip(looked) {
                let mut twice = || Some(near.as_mut()?.is_duplicate(looked.signature.as_ref()?));
                let place = |candidate: &Candidate| Origin::describe(candidate.taken.origin, source.files);
                let (reason, place) = if let Some(shared) = looked.shared {
                    ("contaminated", format!("{}: {shared}", place(&candidate)))
                } else if twice().unwrap_or(false) {
                    ("near_duplicate", place(&candidate))
                } else {
                    source.collected.candidates.push(candidate);
                    continue;
                };
                source.collected.available -= 1;
                source.collected.drop_row(reason, place);
            }
        }
        Ok(())
    }

    /// The held-out prompts, where they are to be kept out by overlap too.
    pub(crate) fn held_out_prompts(&self) -> Overlaps {
        let mut overlaps = Overlaps::default();
        if self.request.plan.decontaminate {
            let held_out = self.sources.iter().filter(|source| !source.is_generated());
            for source in held_out {
                let prompts = source.held_out.iter().flat_map(|taken| taken.row.prompts());
                overlaps.keep_out(&format!("a held-out row of {}", source.plan.dataset), prompts);
            }
        }
        overlaps
    }
}
