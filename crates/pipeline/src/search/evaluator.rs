//! Evaluates merges in memory: losses of base, specialists and merges on the same rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use synapse_checkpoint::ModelFiles;
use synapse_evaluate::rows::HeldOutDocument;
use synapse_kernels::random::MersenneTwister;
use synapse_merge::{InMemoryMerger, MergeCandidate, Trim};
use synapse_nn::{Adapter, LanguageModel, LoadOptions};
use synapse_recipe::{Stage, SuiteId};
use synapse_tokenizer::ChatTokenizer;

use super::{
    Point, SearchOptions, Trial,
    journal::{Journal, Sums},
    stopped,
};
use crate::{
    LoadedModel, PipelineError, ProgressUnit, document_losses::document_losses, record::fingerprint, run_dir::RunDir,
    stages::merge::request, suite_data, trained_pipeline::TrainedPipeline,
};

/// Names in the journal of the base, and of the specialists, each on its own domain.
const BASE: &str = "base";
const SPECIALISTS: &str = "specialists";

/// A domain's held-out rows, in the order in which trials see them.
struct Rows {
    domain: String,
    documents: Vec<HeldOutDocument>,
}

/// Which model is evaluated.
#[derive(Clone, Copy)]
enum Model<'p> {
    Base,
    Specialists,
    Merge(&'p Point),
}

/// A base in memory whose adapted tensors are replaced by one merge after another.
pub(super) struct MergeEvaluator<'a> {
    trained: &'a TrainedPipeline<'a>,
    base: ModelFiles,
    model: Arc<dyn LanguageModel>,
    merger: InMemoryMerger,
    rows: Vec<Rows>,
    journal: Journal,
    /// The merge in the model; `None` is the base.
    loaded: Option<Point>,
    /// Whether the model still has the base's tensors; the first merge replaces them.
    untouched: bool,
}

impl<'a> MergeEvaluator<'a> {
    /// Loads the base, opens the specialists, and orders the rows.
    pub(super) fn open(trained: &'a TrainedPipeline<'a>, options: &SearchOptions) -> Result<Self, PipelineError> {
        let plan = trained.plan;
        let mut rows = Vec::new();
        for (index, (specialist, _)) in trained.specialists.iter().enumerate() {
            let documents = suite_data(Some(&RunDir::new(&specialist.run_dir).data()))?.documents;
            let order = MersenneTwister::new(options.seed.wrapping_add(index as u64)).permutation(documents.len());
            rows.push(Rows {
                domain: specialist.name.clone(),
                documents: order.into_iter().map(|at| documents[at].clone()).collect(),
            });
        }
        // Changes with the search's seed and with everything that a loss depends on.
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
        let base = ModelFiles::open(&trained.base)?;
        Ok(Self {
            model: synapse_nn::models::load(&base, &LoadOptions::BF16)?,
            base,
            merger: InMemoryMerger::open(&request(trained)?)?,
            journal: Journal::open(&RunDir::new(&plan.run_dir).search().join("journal.jsonl"), &search)?,
            rows,
            trained,
            loaded: None,
            untouched: true,
        })
    }

    /// Rows of the longest domain.
    pub(super) fn most_rows(&self) -> usize {
        self.rows.iter().map(|rows| rows.documents.len()).max().unwrap_or(0)
    }

    /// Rows of all domains in a trial on `rows` of each.
    pub(super) fn all_rows(&self, rows: usize) -> usize {
        self.rows.iter().map(|own| own.documents.len().min(rows)).sum()
    }

    /// Takes the losses of base and specialists, before the base is replaced.
    pub(super) fn refer(&mut self, pieces: &[Range<usize>]) -> Result<(), PipelineError> {
        let run = self.trained.run;
        let what = format!("{}: base and specialists on held-out rows", self.trained.plan.name);
        for step in 1..=pieces.len() {
            if run.stops() {
                return Err(stopped(self.trained.plan));
            }
            self.losses(Model::Base, &pieces[..step])?;
            self.losses(Model::Specialists, &pieces[..step])?;
            run.reporter
                .progress(&what, ProgressUnit::Items, step as u64, Some(pieces.len() as u64));
        }
        Ok(())
    }

    /// The result of a merge on the first rows of every domain, read in these row ranges.
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
                what: "no specialist is better than the base on its held-out rows, so a merge has no gain to keep"
                    .into(),
                hint: "train them longer, or use more rows".into(),
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
            Model::Base | Model::Specialists => self.load_base()?,
            Model::Merge(point) => self.load_merge(point)?,
        }
        let mut sums = Sums::new();
        for (rows, (specialist, _)) in self.rows.iter().zip(&self.trained.specialists) {
            let adapter = match model {
                Model::Specialists => {
                    let (folder, precision) = (&specialist.output, LoadOptions::BF16.precision);
                    Some(Adapter::load_for_inference(folder, &self.base, precision)?)
                }
                _ => None,
            };
            let end = piece.end.min(rows.documents.len());
            let documents = &rows.documents[piece.start.min(end)..end];
            let documents = documents
                .iter()
                .map(|document| (document.input_ids.as_slice(), document.labels.as_slice()));
            let losses = document_losses(self.model.as_ref(), documents, adapter.as_ref())?;
            let add = |sum: (f64, u64), loss: (f64, usize)| (sum.0 + loss.0, sum.1 + loss.1 as u64);
            sums.push(losses.into_iter().fold((0.0, 0), add));
        }
        Ok(sums)
    }

    /// Loads the base's own tensors again.
    fn load_base(&mut self) -> Result<(), PipelineError> {
        if !self.untouched {
            self.model = synapse_nn::models::load(&self.base, &LoadOptions::BF16)?;
            (self.loaded, self.untouched) = (None, true);
        }
        Ok(())
    }

    /// Merges in memory and replaces the base's tensors.
    fn load_merge(&mut self, point: &Point) -> Result<(), PipelineError> {
        if self.loaded.as_ref() == Some(point) {
            return Ok(());
        }
        let wrong = |what: String| PipelineError::Unusable {
            what,
            hint: "this is a bug; please report it".into(),
        };
        let candidate = MergeCandidate {
            trim: Trim::from_f64(point.trim).map_err(wrong)?,
            lambda: point.lambda,
            weights: self
                .trained
                .specialists
                .iter()
                .map(|(plan, _)| point.weights.get(&plan.name).copied().unwrap_or(1.0))
                .collect(),
        };
        // Whoever shared the model has dropped it before the next point.
        let model = Arc::get_mut(&mut self.model).ok_or_else(|| wrong("the model is still in use".into()))?;
        (self.loaded, self.untouched) = (None, false);
        let mut refused = None;
        self.merger.merge(&candidate, |name, dtype, bytes| {
            if let Err(error) = model.set_tensor(name, dtype, bytes) {
                refused.get_or_insert(error);
            }
        })?;
        match refused {
            Some(error) => Err(error.into()),
            None => {
                self.loaded = Some(point.clone());
                Ok(())
            }
        }
    }

    /// A model over one merge. Drop it before the next point is tried.
    pub(super) fn load(&mut self, point: &Point) -> Result<LoadedModel, PipelineError> {
        self.load_merge(point)?;
        let chat = ChatTokenizer::open(&self.trained.base)?;
        LoadedModel::of_model(self.model.clone(), chat).with_template_arguments(&self.trained.template_arguments())
    }
}
