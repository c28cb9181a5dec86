//! The model in memory that every point is tried in: base, specialists and merges on the same rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use synapse_checkpoint::ModelFolder;
use synapse_evaluate::Document;
use synapse_kernels::random::MersenneTwister;
use synapse_merge::{Trim, Variation, Variations};
use synapse_nn::{Adapter, Decoder, LanguageModel, LoadOptions, MicroBatch};
use synapse_recipe::{Stage, SuiteId};
use synapse_tokenizer::Chat;

use super::{
    Point, SearchOptions, Trial,
    journal::{Journal, Sums},
    stopped,
};
use crate::{Lab, PipelineError, domain::suite_data, merging::Trained, record::fingerprint, specialist::data_folder};

/// Tokens of one forward pass.
const LOSS_TOKENS: usize = 2048;
/// What the journal calls the base and the specialists, each on its own domain.
const BASE: &str = "base";
const SPECIALISTS: &str = "specialists";

/// A domain's held-out rows, in the order in which trials see them.
struct Rows {
    domain: String,
    documents: Vec<Document>,
}

/// Who is asked.
#[derive(Clone, Copy)]
enum Model<'p> {
    Base,
    Specialists,
    Merge(&'p Point),
}

/// A base whose adapted tensors hold one merge after the other.
pub(super) struct Bench<'a> {
    trained: &'a Trained<'a>,
    decoder: Arc<Decoder>,
    variations: Variations,
    rows: Vec<Rows>,
    journal: Journal,
    /// The merge that the decoder holds; `None` is the base.
    held: Option<Point>,
    /// Whether the base's tensors can still be asked: they are gone with the first merge.
    untouched: bool,
}

impl<'a> Bench<'a> {
    /// Loads the base, opens the specialists, and orders the rows.
    pub(super) fn open(trained: &'a Trained<'a>, options: &SearchOptions) -> Result<Self, PipelineError> {
        let plan = trained.plan;
        let mut rows = Vec::new();
        for (index, (specialist, _)) in trained.specialists.iter().enumerate() {
            let documents = suite_data(Some(&data_folder(specialist)))?.documents;
            let order = MersenneTwister::new(options.seed.wrapping_add(index as u64)).permutation(documents.len());
            rows.push(Rows {
                domain: specialist.name.clone(),
                documents: order.into_iter().map(|at| documents[at].clone()).collect(),
            });
        }
        // Where the search's own seed or anything that a loss depends on changes, so does the text.
        let search = fingerprint(
            Stage::Merge,
            &(
                (
                    &plan.merge.method,
                    &plan.merge.sign,
                    &plan.merge.parameters,
                    plan.merge.seed,
                ),
                &plan.export.dtype,
                (trained.held_out(), trained.hashes(), &trained.base_hash),
                options.seed,
            ),
        )?;
        let folder = ModelFolder::open(&trained.base)?;
        Ok(Self {
            decoder: Arc::new(Decoder::load_for_inference(&folder, &LoadOptions::BF16)?),
            variations: Variations::open(&trained.request()?)?,
            journal: Journal::open(&plan.run_dir.join("search/journal.jsonl"), &search)?,
            rows,
            trained,
            held: None,
            untouched: true,
        })
    }

    /// Rows of the longest domain.
    pub(super) fn most_rows(&self) -> usize {
        self.rows.iter().map(|rows| rows.documents.len()).max().unwrap_or(0)
    }

    /// Rows of all domains that a trial on so many of each sees.
    pub(super) fn all_rows(&self, rows: usize) -> usize {
        self.rows.iter().map(|own| own.documents.len().min(rows)).sum()
    }

    /// Asks base and specialists, while the base is there to be asked.
    pub(super) fn refer(&mut self, pieces: &[Range<usize>]) -> Result<(), PipelineError> {
        let run = self.trained.run;
        let what = format!("{}: base and specialists on held-out rows", self.trained.plan.name);
        for step in 1..=pieces.len() {
            if run.stops() {
                return Err(stopped(self.trained.plan));
            }
            self.losses(Model::Base, &pieces[..step])?;
            self.losses(Model::Specialists, &pieces[..step])?;
            run.reporter.progress(&what, step as u64, Some(pieces.len() as u64));
        }
        Ok(())
    }

    /// How a merge fares on the first rows of every domain, which are seen in these pieces.
    pub(super) fn trial(&mut self, point: &Point, pieces: &[Range<usize>]) -> Result<Trial, PipelineError> {
        let base = self.losses(Model::Base, pieces)?;
        let own = self.losses(Model::Specialists, pieces)?;
        let merge = self.losses(Model::Merge(point), pieces)?;
        let gate = &self.trained.plan.gate;
        let mut trial = Trial {
            point: point.clone(),
            mean_gain_kept: f64::NEG_INFINITY,
            worst_gain_kept: f64::NEG_INFINITY,
            gain_kept: BTreeMap::new(),
            loss: BTreeMap::new(),
            regressed: Vec::new(),
        };
        for (index, rows) in self.rows.iter().enumerate() {
            let (base, own, merge) = (base[index], own[index], merge[index]);
            trial.loss.insert(rows.domain.clone(), merge);
            if own < base {
                let kept = (base - merge) / (base - own);
                trial.gain_kept.insert(rows.domain.clone(), kept);
            }
            if gate.on == SuiteId::HeldOutLoss && merge - base > gate.max_regress * base.abs() {
                trial.regressed.push(rows.domain.clone());
            }
        }
        let kept = &trial.gain_kept;
        if kept.is_empty() {
            return Err(PipelineError::Unusable {
                what: "no specialist is better than the base on its held-out rows, so there is no gain that a merge could keep"
                    .into(),
                hint: "train them longer, or try more rows".into(),
            });
        }
        trial.mean_gain_kept = kept.values().sum::<f64>() / kept.len() as f64;
        trial.worst_gain_kept = kept.values().copied().fold(f64::INFINITY, f64::min);
        Ok(trial)
    }

    /// Mean loss by domain, from the journal as far as it goes.
    fn losses(&mut self, model: Model<'_>, pieces: &[Range<usize>]) -> Result<Vec<f64>, PipelineError> {
        let name = match model {
            Model::Base => BASE.to_owned(),
            Model::Specialists => SPECIALISTS.to_owned(),
            Model::Merge(point) => point.to_string(),
        };
        let mut totals = vec![(0.0, 0); self.rows.len()];
        for piece in pieces {
            let sums = match self.journal.get(&name, piece) {
                Some(known) => known.clone(),
                None => {
                    let sums = self.take(model, piece)?;
                    self.journal.put(&name, piece, sums.clone())?;
                    sums
                }
            };
            for (total, (nats, tokens)) in totals.iter_mut().zip(sums) {
                *total = (total.0 + nats, total.1 + tokens);
            }
        }
        totals
            .iter()
            .zip(&self.rows)
            .map(|(&(nats, tokens), rows)| {
                let mean = nats / tokens as f64;
                if mean.is_finite() {
                    return Ok(mean);
                }
                Err(PipelineError::Unusable {
                    what: format!(
                        "{name}: the held-out loss of {} is {mean} over {tokens} tokens",
                        rows.domain
                    ),
                    hint: "a search needs held-out rows with trained tokens in every domain".into(),
                })
            })
            .collect()
    }

    /// Takes the losses of some rows of every domain.
    fn take(&mut self, model: Model<'_>, piece: &Range<usize>) -> Result<Sums, PipelineError> {
        match model {
            Model::Base | Model::Specialists => self.hold_base()?,
            Model::Merge(point) => self.hold(point)?,
        }
        let mut sums = Sums::new();
        for (rows, (specialist, _)) in self.rows.iter().zip(&self.trained.specialists) {
            let adapter = match model {
                Model::Specialists => {
                    let (folder, config) = (&specialist.output, self.decoder.config());
                    Some(Adapter::load_for_inference(
                        folder,
                        config,
                        LoadOptions::BF16.precision,
                    )?)
                }
                _ => None,
            };
            let end = piece.end.min(rows.documents.len());
            let documents = &rows.documents[piece.start.min(end)..end];
            sums.push(total(&self.decoder, documents, adapter.as_ref())?);
        }
        Ok(sums)
    }

    /// Puts the base's own tensors back.
    fn hold_base(&mut self) -> Result<(), PipelineError> {
        if !self.untouched {
            let folder = ModelFolder::open(&self.trained.base)?;
            self.decoder = Arc::new(Decoder::load_for_inference(&folder, &LoadOptions::BF16)?);
            (self.held, self.untouched) = (None, true);
        }
        Ok(())
    }

    /// Makes a merge and puts it in the base's place.
    fn hold(&mut self, point: &Point) -> Result<(), PipelineError> {
        if self.held.as_ref() == Some(point) {
            return Ok(());
        }
        let wrong = |what: String| PipelineError::Unusable {
            what,
            hint: "this is a fault of the program; please report it".into(),
        };
        let variation = Variation {
            trim: Trim::from_f64(point.trim).map_err(wrong)?,
            lambda: point.lambda,
            weights: self
                .trained
                .specialists
                .iter()
                .map(|(plan, _)| point.weights.get(&plan.name).copied().unwrap_or(1.0))
                .collect(),
        };
        // A lab that used the decoder is gone before the next point, so nobody else holds it.
        let decoder = Arc::get_mut(&mut self.decoder).ok_or_else(|| wrong("the model is still in use".into()))?;
        (self.held, self.untouched) = (None, false);
        let mut refused = None;
        self.variations.make(&variation, |name, dtype, bytes| {
            if let Err(error) = decoder.set_tensor(name, dtype, bytes) {
                refused.get_or_insert(error);
            }
        })?;
        match refused {
            Some(error) => Err(error.into()),
            None => {
                self.held = Some(point.clone());
                Ok(())
            }
        }
    }

    /// A lab over one merge. Drop it before the next point is tried.
    pub(super) fn lab(&mut self, point: &Point) -> Result<Lab, PipelineError> {
        self.hold(point)?;
        Ok(Lab::of_decoder(self.decoder.clone(), Chat::open(&self.trained.base)?))
    }
}

/// Loss and trained tokens of documents, several to a forward pass.
fn total(decoder: &Decoder, documents: &[Document], adapter: Option<&Adapter>) -> Result<(f64, u64), PipelineError> {
    let mut sum = (0.0, 0);
    let mut batch = MicroBatch::default();
    for (index, document) in documents.iter().enumerate() {
        batch.push(
            &document.input_ids,
            &document.labels,
            &[document.input_ids.len() as u32],
        );
        if batch.tokens.len() >= LOSS_TOKENS || index + 1 == documents.len() {
            for (nats, tokens) in decoder.document_losses(&batch, adapter)? {
                sum = (sum.0 + nats, sum.1 + tokens as u64);
            }
            batch = MicroBatch::default();
        }
    }
    Ok(sum)
}
