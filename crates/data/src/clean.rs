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
    contaminated: bool,
    signature: Option<Signature>,
}

impl Preparation<'_> {
    /// Drops what the plan does not want, with its reason.
    pub(crate) fn clean(&mut self) -> Result<()> {
        let plan = self.request.plan;
        let mut benchmarks = Overlaps::default();
        if plan.decontaminate {
            let asked = self.request.benchmarks.iter().flat_map(|benchmark| &benchmark.texts);
            asked.for_each(|text| benchmarks.keep_out(text));
            for path in &plan.benchmarks {
                read_texts(&SourceFile::local(path)?)?
                    .iter()
                    .for_each(|text| benchmarks.keep_out(text));
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
                    contaminated: benchmarks.touches(&text),
                    signature: near.is_some().then(|| signature(&text)).flatten(),
                }
            };
            let looked: Vec<Looked> = candidates.par_iter().map(look).collect();
            for (candidate, looked) in candidates.into_iter().zip(looked) {
                let mut twice = || Some(near.as_mut()?.is_duplicate(looked.signature.as_ref()?));
                let reason = if looked.contaminated {
                    "contaminated"
                } else if twice().unwrap_or(false) {
                    "near_duplicate"
                } else {
                    source.collected.candidates.push(candidate);
                    continue;
                };
                source.collected.available -= 1;
                let place = Origin::describe(candidate.taken.origin, source.files);
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
            let rows = held_out.flat_map(|source| &source.held_out);
            rows.flat_map(|taken| taken.row.prompts())
                .for_each(|prompt| overlaps.keep_out(prompt));
        }
        overlaps
    }
}
