//! Drops near duplicates and contaminated rows from the candidates, before rows are held out.
//!
//! Rows are compared in the seeded order, source by source; of several near duplicates the first stays. Only candidates
//! are compared, so the counts of a sampled source are those of its sample.

use rayon::prelude::*;

use crate::Result;
use crate::collect::RankedRow;
use crate::decontaminate::{Contamination, read_texts};
use crate::minhash::{NearDuplicates, Signature, signature};
use crate::mix::Preparation;
use crate::provenance::Origin;
use crate::request::SourceFile;

/// The result of comparing one row; computed in parallel.
struct Comparison {
    /// The words shared with a benchmark.
    shared: Option<String>,
    signature: Option<Signature>,
}

impl Preparation<'_> {
    /// Drops near duplicates and contaminated rows as the plan says, with their reasons.
    pub(crate) fn deduplicate(&mut self) -> Result<()> {
        let plan = self.request.plan;
        let mut benchmarks = Contamination::default();
        if plan.decontaminate {
            for benchmark in self.request.benchmarks {
                benchmarks.add(&benchmark.name, benchmark.texts.iter().map(String::as_str));
            }
            for path in &plan.benchmarks {
                let file = SourceFile::local(path)?;
                benchmarks.add(&file.name, read_texts(&file)?.iter().map(String::as_str));
            }
        } else if plan.near_duplicates.is_none() {
            return Ok(());
        }
        let mut near = plan.near_duplicates.map(NearDuplicates::new);
        for source in self.sources.iter_mut().filter(|source| !source.is_generated()) {
            let candidates = std::mem::take(&mut source.collected.candidates);
            let compare = |candidate: &RankedRow| {
                let text = candidate.sampled.row.text();
                Comparison {
                    shared: benchmarks.shared(&text),
                    signature: near.is_some().then(|| signature(&text)).flatten(),
                }
            };
            let compared: Vec<Comparison> = candidates.par_iter().map(compare).collect();
            for (candidate, compared) in candidates.into_iter().zip(compared) {
                let mut is_duplicate = || Some(near.as_mut()?.is_duplicate(compared.signature.as_ref()?));
                let place = |candidate: &RankedRow| Origin::describe(candidate.sampled.origin, source.files);
                let (reason, place) = if let Some(shared) = compared.shared {
                    ("contaminated", format!("{}: {shared}", place(&candidate)))
                } else if is_duplicate().unwrap_or(false) {
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

    /// The held-out prompts, against which training rows are decontaminated if the plan says so.
    pub(crate) fn held_out_prompts(&self) -> Contamination {
        let mut overlaps = Contamination::default();
        if self.request.plan.decontaminate {
            let held_out = self.sources.iter().filter(|source| !source.is_generated());
            for source in held_out {
                let prompts = source.held_out.iter().flat_map(|sampled| sampled.row.prompts());
                overlaps.add(&format!("a held-out row of {}", source.plan.dataset), prompts);
            }
        }
        overlaps
    }
}
