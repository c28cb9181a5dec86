//! The whole of data preparation, in order: select rows, tokenize, pack, write.

use std::collections::BTreeMap;

use synapse_recipe::Overlong;

use crate::dataset::write_rows;
use crate::held_out::write_held_out;
use crate::lengths::Lengths;
use crate::manifest::{FORMAT_VERSION, OverlongManifest};
use crate::mix::Preparation;
use crate::pack::{join, pack};
use crate::provenance::{DocumentOrigin, Origin, SampledRow, write_origins};
use crate::random::Random;
use crate::referenced_requests::referenced_requests;
use crate::request::{PrepareEvent, PrepareRequest};
use crate::row::{Dialogue, Row};
use crate::source_manifest::split_manifest;
use crate::tokenize::fit;
use crate::{DataError, HeldOutRow, Manifest, PackedRow, Result};

/// Prepares training data. Writes into `request.out`: train.arrow, origins.jsonl (the provenance of its documents and the
/// tokens cut off them), held_out.arrow (one document in each row), held_out.jsonl (the same rows as text, in the same
/// order) and manifest.json. The same request gives the same bytes.
///
/// # Errors
/// A file that cannot be read or has malformed rows (named with line or row), columns that fit no format, too few rows in
/// a strict recipe, or no rows left to train on.
pub fn prepare(request: &PrepareRequest<'_>, progress: &dyn Fn(PrepareEvent)) -> Result<Manifest> {
    let requests = referenced_requests(request, progress)?;
    let mut preparation = Preparation::new(request, requests, progress)?;
    preparation.select()?;
    preparation.write()
}

impl Preparation<'_> {
    /// Tokenizes, packs and writes.
    fn write(mut self) -> Result<Manifest> {
        let (request, out) = (self.request, self.request.out);
        let (train, mut totals) = self.documents(false)?;
        let (held_out, _) = self.documents(true)?;
        let mut overlong = OverlongManifest {
            policy: request.train.overlong,
            rows: 0,
            tokens_lost: 0,
        };

        let (mut documents, mut origins) = (Vec::new(), Vec::new());
        let longest = request.train.max_seq_len;
        for (source, sampled, document) in train {
            let of = document.ids.len();
            let total = &mut totals[source];
            total.lengths.push(of);
            let place = Origin::describe(sampled.origin, self.sources[source].files);
            let cut = match request.train.overlong {
                Overlong::Truncate => document.ids.get(longest..).unwrap_or_default().to_vec(),
                Overlong::Drop | Overlong::Split => Vec::new(),
            };
            let (chunks, lost) = fit(document, longest, request.train.overlong);
            total.overlong.rows += u64::from(of > longest);
            total.overlong.tokens_lost += lost;
            if chunks.is_empty() {
                self.sources[source].collected.drop_row("overlong", &place);
            }
            for (from, chunk) in chunks {
                total.documents += 1;
                total.tokens += chunk.ids.len() as u64;
                total.target_tokens += chunk.target_tokens();
                origins.push(DocumentOrigin {
                    source: self.sources[source].plan.dataset.clone(),
                    place: place.clone(),
                    from,
                    of,
                    cut: cut.clone(),
                });
                documents.push(chunk);
            }
        }
        for total in &totals {
            overlong.rows += total.overlong.rows;
            overlong.tokens_lost += total.overlong.tokens_lost;
        }
        if overlong.rows > 0 {
            let (rows, lost, longest) = (overlong.rows, overlong.tokens_lost, request.train.max_seq_len);
            self.warn(format!(
                "{rows} documents are longer than {longest} tokens; {lost} tokens are not trained on"
            ));
        }
        if documents.is_empty() {
            return Err(self.empty());
        }
        let mut groups = if request.train.packing {
            pack(&documents, longest)
        } else {
            (0..documents.len()).map(|index| vec![index]).collect()
        };
        Random::new(request.plan.seed, "order of rows").shuffle(&mut groups);
        let rows: Vec<PackedRow> = groups
            .iter()
            .map(|group| join(group.iter().map(|&index| &documents[index])))
            .collect();
        let origins: Vec<Vec<DocumentOrigin>> = groups
            .iter()
            .map(|group| group.iter().map(|&index| origins[index].clone()).collect())
            .collect();

        let mut held: Vec<(HeldOutRow, PackedRow)> = Vec::new();
        for (source, sampled, document) in held_out {
            // Of a long document the loss is measured over its first chunk; its text stays complete.
            let (chunks, _) = fit(document, request.train.max_seq_len, Overlong::Truncate);
            if let Some((_, chunk)) = chunks.first() {
                totals[source].held_out_rows += 1;
                let dataset = self.sources[source].plan.dataset.clone();
                held.push((held_out_row(dataset, sampled), join([chunk])));
            }
        }
        Random::new(request.plan.seed, "order of held-out rows").shuffle(&mut held);
        let (held_texts, held_rows): (Vec<_>, Vec<_>) = held.into_iter().unzip();

        write_rows(&out.join("train.arrow"), &rows)?;
        write_origins(&out.join("origins.jsonl"), &origins)?;
        write_rows(&out.join("held_out.arrow"), &held_rows)?;
        write_held_out(&out.join("held_out.jsonl"), &held_texts)?;
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            seed: request.plan.seed,
            template_sha256: request.chat.template_hash(),
            tokenizer_sha256: request.chat.tokenizer_hash().to_owned(),
            max_seq_len: request.train.max_seq_len,
            packing: request.train.packing,
            loss_on: request.train.loss_on,
            overlong,
            lengths: Lengths::of(
                totals.iter().flat_map(|total| &total.lengths).copied().collect(),
                longest,
            ),
            decontaminated_against: self.benchmark_names(),
            train: split_manifest(&rows, &out.join("train.arrow"))?,
            held_out: split_manifest(&held_rows, &out.join("held_out.arrow"))?,
            sources: self
                .sources
                .iter()
                .zip(totals)
                .map(|(source, totals)| source.manifest(totals, longest))
                .collect(),
            warnings: self.warnings,
        };
        manifest.write(&out.join("manifest.json"))?;
        Ok(manifest)
    }

    /// The names of the benchmarks that training rows were decontaminated against.
    fn benchmark_names(&self) -> Vec<String> {
        let plan = self.request.plan;
        if !plan.decontaminate {
            return Vec::new();
        }
        let asked = self.request.benchmarks.iter().map(|benchmark| benchmark.name.clone());
        let files = plan.benchmarks.iter().filter_map(|path| path.file_name());
        asked
            .chain(files.map(|name| name.to_string_lossy().into_owned()))
            .collect()
    }

    fn empty(&self) -> DataError {
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for source in &self.sources {
            for (reason, count) in &source.collected.dropped {
                *reasons.entry(reason).or_default() += count;
            }
        }
        let listed: Vec<String> = reasons
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        let reasons = if listed.is_empty() {
            "none, the sources hold no rows".to_owned()
        } else {
            listed.join(", ")
        };
        DataError::Empty { reasons }
    }
}

fn held_out_row(source: String, sampled: SampledRow) -> HeldOutRow {
    let kind = sampled.kind.map(|kind| kind.id().to_owned());
    match sampled.row {
        Row::Chat(Dialogue { messages, tools, tests }) => HeldOutRow {
            source,
            kind,
            messages,
            tools,
            text: None,
            tests,
        },
        Row::Document(text) => HeldOutRow {
            source,
            kind,
            messages: Vec::new(),
            tools: Vec::new(),
            text: Some(text),
            tests: None,
        },
    }
}
