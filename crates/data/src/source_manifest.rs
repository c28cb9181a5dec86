//! The counts of one source or split, as manifest.json has them.

use std::collections::BTreeSet;
use std::path::Path;

use synapse_checkpoint::sha256_file;
use synapse_recipe::{Location, Samples};

use crate::lengths::Lengths;
use crate::manifest::{FileManifest, Overlength, SourceManifest, SplitManifest};
use crate::referenced_requests::license;
use crate::source::Source;
use crate::{PackedRow, Result, routing};

/// Counts of one source that are known only after tokenizing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) rows_taken: u64,
    pub(crate) special_token_rows: u64,
    pub(crate) lengths: Vec<usize>,
    pub(crate) overlong: Overlength,
    pub(crate) documents: u64,
    pub(crate) tokens: u64,
    pub(crate) target_tokens: u64,
    pub(crate) held_out_rows: u64,
}

impl Source<'_> {
    pub(crate) fn manifest(&self, totals: Totals, longest: usize) -> SourceManifest {
        let (plan, collected) = (self.plan, &self.collected);
        let files = self
            .files
            .files
            .iter()
            .chain(self.held_out_source.iter().map(|(file, _)| file));
        let held_out = self.held_out_source.iter().map(|(_, rows)| rows);
        let unused: BTreeSet<&String> = held_out
            .chain([collected])
            .flat_map(|rows| &rows.unused_columns)
            .collect();
        SourceManifest {
            dataset: plan.dataset.clone(),
            origin: match &plan.location {
                Location::Hub { id, .. } => id.clone(),
                Location::File(_) => "local".to_owned(),
                Location::Routing => format!("routing generator {}", routing::VERSION),
            },
            revision: self.files.revision.clone(),
            license: plan
                .license
                .clone()
                .or_else(|| self.files.license.clone())
                .or_else(|| self.is_generated().then(|| license(&self.requests.manifests))),
            first_rows: self.files.first_rows,
            drawn_from: self.files.drawn_from,
            files: files.map(FileManifest::of).collect(),
            requests: self.requests.manifests.clone(),
            format: collected.format,
            asked: match plan.samples {
                Samples::All => "all".to_owned(),
                Samples::Rest => "rest".to_owned(),
                Samples::Count(count) => count.to_string(),
            },
            rows_read: collected.read,
            dropped: collected
                .dropped
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            examples: collected
                .examples
                .iter()
                .map(|(reason, places)| ((*reason).to_owned(), places.clone()))
                .collect(),
            unused_columns: unused.into_iter().cloned().collect(),
            lengths: Lengths::of(totals.lengths, longest),
            overlong: totals.overlong,
            special_token_rows: totals.special_token_rows,
            rows_available: collected.available,
            rows_taken: totals.rows_taken,
            documents: totals.documents,
            tokens: totals.tokens,
            target_tokens: totals.target_tokens,
            held_out_rows: totals.held_out_rows,
        }
    }
}

/// The counts of packed rows that were written to `file`.
pub(crate) fn split_manifest(rows: &[PackedRow], file: &Path) -> Result<SplitManifest> {
    let targets = |row: &PackedRow| row.labels.iter().filter(|&&label| label >= 0).count() as u64;
    Ok(SplitManifest {
        rows: rows.len() as u64,
        documents: rows.iter().map(|row| row.seq_lengths.len() as u64).sum(),
        tokens: rows.iter().map(|row| row.input_ids.len() as u64).sum(),
        target_tokens: rows.iter().map(targets).sum(),
        sha256: sha256_file(file)?,
    })
}
