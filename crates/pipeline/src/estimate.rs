//! `plan`: what a recipe or pipeline would do, without doing it.
//!
//! Steps and tokens are exact where the data is already prepared, else upper bounds from the plan; memory
//! is the sum of what the trainer allocates. Time is not guessed: the parts of a step are measured first, on random
//! weights of the model's shape, which takes some seconds.

use serde::Serialize;
use synapse_bench::StepCost;
use synapse_data::{Manifest, PackedDataset};
use synapse_nn::{LoadOptions, Workload};
use synapse_recipe::{Location, Plan, Samples, SpecialistPlan, Stage};
use synapse_trainer::Steps;

mod display;

use crate::{
    PipelineError,
    last_run::{LastRun, prepared_manifest},
    row_lengths::{RowLengths, base_config},
    run_dir::RunDir,
};

/// The estimate for one file.
#[derive(Debug, Clone, Serialize)]
pub struct Estimate {
    /// The file's name for itself.
    pub name: String,
    /// Where it publishes.
    pub output: String,
    /// One entry a recipe.
    pub recipes: Vec<RecipeEstimate>,
}

/// The estimate for one recipe.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RecipeEstimate {
    /// The recipe's name.
    pub name: String,
    /// The base.
    pub base: String,
    /// Stages whose record exists.
    pub recorded: Vec<&'static str>,
    /// Whether they ran for the recipe as it is now.
    pub current: bool,
    /// Training rows: exact once prepared, else what the sources are asked for; `None` if a source is taken whole.
    pub rows: Option<u64>,
    /// Whether `rows` was counted in prepared data.
    pub exact: bool,
    /// Optimizer steps for those rows.
    pub steps: Option<u64>,
    /// Tokens of one pass, once prepared.
    pub tokens: Option<u64>,
    /// Memory by component, where the base's configuration is on this disk: of the largest micro-batch once the data is
    /// prepared, else of one of full rows.
    pub memory: Option<MemoryEstimate>,
    /// Time of training, once the data is prepared too.
    pub time: Option<TimeEstimate>,
    /// Sources with their licenses.
    pub sources: Vec<(String, Option<String>)>,
    /// What to know about rows that are too long.
    pub notes: Vec<String>,
}

/// How long training takes, from rates measured on this machine a moment ago.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TimeEstimate {
    /// Seconds of the train stage, held-out losses not counted.
    pub seconds: f64,
    /// Tokens a second, accumulation and update included.
    pub tokens_per_second: f64,
}

/// Bytes by component at the peak of training.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryEstimate {
    /// Frozen weights.
    pub weights: u64,
    /// Trainable parameters, gradients and both moments.
    pub trainable: u64,
    /// Layer inputs and what layers keep for the backward pass.
    pub activations: u64,
    /// Buffers in use at once inside a layer.
    pub workspace: u64,
    /// Logits of one chunk.
    pub logits: u64,
    /// The program itself, as this process has it before it measures anything.
    pub process: u64,
    /// All of it.
    pub total: u64,
    /// Whether layers are computed again in the backward pass.
    pub recompute: bool,
}

impl MemoryEstimate {
    fn new(workload: &Workload<'_>, process: u64) -> Self {
        let memory = workload.memory();
        Self {
            weights: memory.weights,
            trainable: memory.trainable,
            activations: memory.activations,
            workspace: memory.workspace,
            logits: memory.logits,
            process,
            total: memory.total() + process,
            recompute: workload.recompute,
        }
    }
}

/// What the prepared data says about a micro-batch.
struct Rows {
    /// Tokens of an average micro-batch.
    tokens: usize,
    /// Tokens of an average document.
    document: usize,
    /// Share of tokens that are trained.
    trained: f64,
    /// Tokens of the whole run.
    total: f64,
    /// Optimizer steps of the whole run.
    steps: u64,
}

impl Rows {
    fn new(plan: &SpecialistPlan, manifest: &Manifest) -> Self {
        let train = &manifest.train;
        let steps = Steps::new(&plan.train, train.rows as usize);
        let per_row = train.tokens as f64 / train.rows.max(1) as f64;
        let tokens = per_row * plan.train.batch_size as f64;
        Self {
            tokens: tokens.round() as usize,
            document: (train.tokens / train.documents.max(1)) as usize,
            trained: train.target_tokens as f64 / train.tokens.max(1) as f64,
            total: train.tokens as f64 * steps.total as f64 / steps.per_epoch as f64,
            steps: steps.total,
        }
    }

    /// Measures parts of a step and adds them up.
    fn time(&self, workload: &Workload<'_>, load: &LoadOptions) -> Result<TimeEstimate, PipelineError> {
        /// Tokens on which rates are measured: enough for the kernels' full speed, few enough for a moment's wait.
        const PROBE: usize = 1024;
        let tokens = self.tokens.clamp(2, PROBE);
        let probe = Workload {
            tokens,
            longest: self.document.clamp(2, tokens),
            ..*workload
        };
        let cost = StepCost::measure(&probe, load, self.trained)?;
        let layers = workload.config.num_hidden_layers as f64;
        let per_token = cost.layer * layers + cost.rest;
        let updates = cost.update * workload.trainable_parameters() as f64 * self.steps as f64;
        let seconds = per_token * self.total + updates;
        Ok(TimeEstimate {
            seconds,
            tokens_per_second: self.total / seconds,
        })
    }
}

impl Estimate {
    /// Reads what is on disk and estimates the rest.
    ///
    /// # Errors
    /// A configuration or manifest that is there but cannot be read.
    pub fn new(document: &Plan) -> Result<Self, PipelineError> {
        let plans = match document {
            Plan::Specialist(plan) => vec![plan],
            Plan::Pipeline(plan) => plan.specialists.iter().collect(),
        };
        let process = synapse_trainer::resident_bytes().unwrap_or(0);
        let recipes = plans
            .into_iter()
            .map(|plan| RecipeEstimate::new(plan, process))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: document.name().to_owned(),
            output: document.output().display().to_string(),
            recipes,
        })
    }
}

impl RecipeEstimate {
    fn new(plan: &SpecialistPlan, process: u64) -> Result<Self, PipelineError> {
        let ran = LastRun::read(plan)?;
        let manifest = prepared_manifest(plan, ran)?;
        let asked = plan.data.total.or_else(|| {
            plan.data
                .sources
                .iter()
                .map(|source| match source.samples {
                    Samples::Count(count) => Some(count),
                    Samples::All | Samples::Rest => None,
                })
                .sum()
        });
        let rows = manifest.as_ref().map(|manifest| manifest.train.rows).or(asked);
        let recorded = Stage::ALL
            .iter()
            .filter(|stage| RunDir::new(&plan.run_dir).record(**stage).is_file());
        let config = base_config(plan)?;
        let notes = RowLengths::new(plan, config.as_ref(), manifest.as_ref()).notes()?;
        let load = synapse_trainer::load_options(&plan.train, plan.quantization);
        let workload = config
            .as_ref()
            .map(|config| synapse_trainer::workload(&plan.train, &plan.method, plan.quantization, config));
        let (time, largest) = match (&manifest, &workload) {
            (Some(manifest), Some(workload)) => {
                let rows = PackedDataset::open(&RunDir::new(&plan.run_dir).train_rows())?;
                let largest = synapse_trainer::largest_micro_batch(&plan.train, &rows);
                (Some(Rows::new(plan, manifest).time(workload, &load)?), largest)
            }
            _ => (None, None),
        };
        // what is kept was decided for full rows, as the run decides it; what it takes depends on the rows there are
        let (tokens, longest) =
            largest.unwrap_or((plan.train.batch_size * plan.train.max_seq_len, plan.train.max_seq_len));
        let memory = workload.as_ref().map(|&workload| {
            let largest = Workload {
                tokens,
                longest,
                ..workload
            };
            MemoryEstimate::new(&largest, process)
        });
        Ok(Self {
            name: plan.name.clone(),
            base: plan.base.to_string(),
            recorded: recorded.map(|stage| stage.id()).collect(),
            current: ran.is_none_or(|ran| ran.same),
            rows,
            exact: manifest.is_some(),
            steps: rows.map(|rows| Steps::new(&plan.train, rows as usize).total),
            tokens: manifest.as_ref().map(|manifest| manifest.train.tokens),
            memory,
            time,
            sources: sources(plan),
            notes,
        })
    }
}

/// Sources with their licenses, those of other recipes' requests included.
fn sources(plan: &SpecialistPlan) -> Vec<(String, Option<String>)> {
    let mut sources = Vec::new();
    for source in &plan.data.sources {
        let license = source.license.clone();
        let generated = || "generated here".to_owned();
        let license = license.or_else(|| (source.location == Location::Routing).then(generated));
        sources.push((source.dataset.clone(), license));
        for requests in &source.requests {
            let asked = requests.data.sources.iter();
            sources.extend(asked.map(|asked| (format!("{}, its requests", asked.dataset), asked.license.clone())));
        }
    }
    sources
}
