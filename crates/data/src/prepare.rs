//! The whole of data preparation, in order: read, mix and split, tokenize, pack, write.

use std::collections::BTreeMap;
use std::path::Path;

use synapse_checkpoint::sha256_file;
use synapse_recipe::{Location, Overlong, Samples};

use crate::dataset::write_rows;
use crate::held_out::write_held_out;
use crate::lengths::Lengths;
use crate::manifest::{FORMAT_VERSION, FileManifest, Overlength, OverlongManifest, SourceManifest, SplitManifest};
use crate::mix::{Preparation, Source};
use crate::origin::{DocumentOrigin, Origin, Taken, write_origins};
use crate::pack::{Document, join, pack};
use crate::random::Random;
use crate::request::{PrepareEvent, PrepareRequest};
use crate::row::{Dialogue, Row};
use crate::tokenize::{Outcome, fit, tokenize};
use crate::{DataError, HeldOutRow, Manifest, PackedRow, Result, prompts, routing};

/// Prepares training data: writes train.arrow, origins.jsonl (where the documents of its rows come from, and what was
/// cut off them), held_out.arrow (one document a row), held_out.jsonl (the same rows as text, in the same order) and
/// manifest.json into `request.out`. The same request gives the same bytes.
///
/// # Errors
/// A file that cannot be read or has rows that break its format (named with line or row), columns that fit no format,
/// too few rows in a strict recipe, or nothing left to train on.
pub fn prepare(request: &PrepareRequest<'_>, progress: &dyn Fn(PrepareEvent)) -> Result<Manifest> {
    let mut preparation = Preparation::new(request, progress)?;
    preparation.collect()?;
    preparation.clean()?;
    preparation.split()?;
    preparation.write()
}

/// A document, its source's number and the row it was made of.
type Tokenized = (usize, Taken, Document);

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
        for (source, taken, document) in train {
            let of = document.ids.len();
            let total = &mut totals[source];
            total.lengths.push(of);
            let place = Origin::describe(taken.origin, self.sources[source].files);
            let cut = match request.train.overlong {
                Overlong::Truncate => document.ids.get(longest..).unwrap_or_default().to_vec(),
                Overlong::Drop | Overlong::Split => Vec::new(),
            };
            let (pieces, lost) = fit(document, longest, request.train.overlong);
            total.overlong.rows += u64::from(of > longest);
            total.overlong.tokens_lost += lost;
            if pieces.is_empty() {
                self.sources[source].collected.drop_row("overlong", &place);
            }
            for (from, piece) in pieces {
                total.documents += 1;
                total.tokens += piece.ids.len() as u64;
                total.trained_tokens += piece.target_tokens();
                origins.push(DocumentOrigin {
                    source: self.sources[source].plan.dataset.clone(),
                    place: place.clone(),
                    from,
                    of,
                    cut: cut.clone(),
                });
                documents.push(piece);
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
        for (source, taken, document) in held_out {
            // The loss over the first part of a long document is a loss too; its text stays whole.
            let (pieces, _) = fit(document, request.train.max_seq_len, Overlong::Truncate);
            if let Some((_, piece)) = pieces.first() {
                totals[source].held_out_rows += 1;
                let dataset = self.sources[source].plan.dataset.clone();
                held.push((held_out_row(dataset, taken), join([piece])));
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
            template_sha256: request.chat.template_hash().to_owned(),
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

    /// The documents of all sources, each with its source and row.
    fn documents(&mut self, held_out: bool) -> Result<(Vec<Tokenized>, Vec<Totals>)> {
        let request = self.request;
        let mut rows: Vec<(usize, Taken)> = Vec::new();
        let mut totals = Vec::new();
        for (index, source) in self.sources.iter_mut().enumerate() {
            let prompt = source.plan.system_prompt.as_deref().or(request.system_prompt);
            let prompt = prompt.or(source.is_generated().then_some(routing::SYSTEM_PROMPT));
            let from = std::mem::take(if held_out {
                &mut source.held_out
            } else {
                &mut source.train
            });
            let spelled = |taken: &&Taken| taken.row.any_text(|text| request.chat.contains_special_tokens(text));
            totals.push(Totals {
                rows_taken: from.len() as u64,
                control_tokens: from.iter().filter(spelled).count() as u64,
                ..Totals::default()
            });
            rows.extend(from.into_iter().map(|taken| {
                let row = taken.row.with_system_prompt(prompt);
                (index, Taken { row, ..taken })
            }));
        }
        let total = rows.len();
        let tell = |done| (self.progress)(PrepareEvent::Tokenized { done, total });
        let borrowed: Vec<&Row> = rows.iter().map(|(_, taken)| &taken.row).collect();
        let outcomes = tokenize(request.chat, &borrowed, request.train.loss_on, &tell)?;
        let mut documents = Vec::with_capacity(total);
        let mut refusals: BTreeMap<usize, (u64, String)> = BTreeMap::new();
        for ((index, taken), outcome) in rows.into_iter().zip(outcomes) {
            let reason = match outcome {
                Outcome::Document(document) => {
                    documents.push((index, taken, document));
                    continue;
                }
                Outcome::NothingTrained => "nothing_trained",
                Outcome::Refused(words) => {
                    refusals.entry(index).or_insert((0, words)).0 += 1;
                    "refused_by_template"
                }
            };
            let source = &mut self.sources[index];
            let place = Origin::describe(taken.origin, source.files);
            source.collected.drop_row(reason, place);
        }
        for (index, (count, words)) in refusals {
            let dataset = self.sources[index].plan.dataset.clone();
            self.warn(format!(
                "{dataset}: {count} rows cannot be rendered, the first because: {words}"
            ));
        }
        Ok((documents, totals))
    }

    /// What training rows were held against, by name.
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

/// Counts of one source that are known only after tokenizing.
#[derive(Debug, Clone, Default)]
struct Totals {
    rows_taken: u64,
    control_tokens: u64,
    lengths: Vec<usize>,
    overlong: Overlength,
    documents: u64,
    tokens: u64,
    trained_tokens: u64,
    held_out_rows: u64,
}

impl Source<'_> {
    fn manifest(&self, totals: Totals, longest: usize) -> SourceManifest {
        let (plan, collected) = (self.plan, &self.collected);
        let files = self.files.files.iter().chain(self.apart.iter().map(|(file, _)| file));
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
                .or_else(|| self.is_generated().then(|| prompts::license(&self.requests))),
            first_rows: self.files.first_rows,
            drawn_from: self.files.drawn_from,
            files: files.map(FileManifest::of).collect(),
            requests: self.requests.clone(),
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
            unused_columns: collected.unused_columns.iter().cloned().collect(),
            lengths: Lengths::of(totals.lengths, longest),
            overlong: totals.overlong,
            control_tokens: totals.control_tokens,
            rows_available: collected.available,
            rows_taken: totals.rows_taken,
            documents: totals.documents,
            tokens: totals.tokens,
            trained_tokens: totals.trained_tokens,
            held_out_rows: totals.held_out_rows,
        }
    }
}

fn held_out_row(source: String, taken: Taken) -> HeldOutRow {
    let kind = taken.kind.map(|kind| kind.id().to_owned());
    match taken.row {
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

fn split_manifest(rows: &[PackedRow], file: &Path) -> Result<SplitManifest> {
    let trained = |row: &PackedRow| row.labels.iter().filter(|&&label| label >= 0).count() as u64;
    Ok(SplitManifest {
        rows: rows.len() as u64,
        documents: rows.iter().map(|row| row.seq_lengths.len() as u64).sum(),
        tokens: rows.iter().map(|row| row.input_ids.len() as u64).sum(),
        trained_tokens: rows.iter().map(trained).sum(),
        sha256: sha256_file(file)?,
    })
}
