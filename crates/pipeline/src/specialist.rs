//! A recipe: fetch → prepare → train → evaluate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synapse_checkpoint::{ModelConfig, ModelFolder, Staged};
use synapse_data::{Benchmark, Manifest, PackedDataset, PrepareEvent, PrepareRequest};
use synapse_evaluate::Outcome;
use synapse_nn::LoadOptions;
use synapse_recipe::{Plan, SpecialistPlan, Stage, TrainingMethod};
use synapse_tokenizer::Chat;
use synapse_trainer::{Device, HeldOutReport, StepReport, TrainOutcome, TrainRequest, TrainingBase, TrainingObserver};

use crate::{
    Fetched, FetchedSource, Lab, PipelineError, Reporter, Run,
    domain::{Domain, Logs},
    fetch::fetch,
    record::{StageRun, fingerprint, write_json},
    trace::TracedSample,
};

/// How far a recipe came and what it left.
#[derive(Debug, Clone)]
pub struct SpecialistOutcome {
    /// Base and data files.
    pub fetched: Fetched,
    /// The prepared data's manifest, once prepared.
    pub manifest: Option<Manifest>,
    /// What training did, once trained.
    pub trained: Option<Trained>,
    /// Base and specialist on the recipe's own domain, once evaluated.
    pub outcomes: Vec<Outcome>,
}

/// A finished training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Optimizer steps.
    pub steps: u64,
    /// Trainable parameters.
    pub parameters: u64,
    /// Loss of the last step.
    pub loss: f64,
    /// Held-out loss of the result.
    pub held_out_loss: Option<f64>,
    /// What computed it.
    pub device: Device,
    /// sha256 of the published weights.
    pub hash: String,
}

/// The folder of a recipe's prepared data.
pub(crate) fn data_folder(plan: &SpecialistPlan) -> PathBuf {
    plan.run_dir.join("data")
}

/// Runs a recipe.
///
/// # Errors
/// Whatever a stage refuses; what was finished stays and is not repeated next time.
pub fn run_specialist(run: &Run<'_>, plan: &SpecialistPlan) -> Result<SpecialistOutcome, PipelineError> {
    let document = Plan::Specialist(plan.clone());
    run.with_page(document, |run| all_stages(run, plan))
}

fn all_stages(run: &Run<'_>, plan: &SpecialistPlan) -> Result<SpecialistOutcome, PipelineError> {
    let mut outcome = prepare_and_train(run, plan)?;
    let wanted = plan.stages.contains(&Stage::Evaluate) && !run.ends_before(Stage::Evaluate);
    if let (true, Some(trained)) = (wanted, &outcome.trained) {
        outcome.outcomes = evaluate(run, plan, &outcome.fetched, trained)?;
    }
    Ok(outcome)
}

/// Everything up to the trained artifact.
pub(crate) fn prepare_and_train(run: &Run<'_>, plan: &SpecialistPlan) -> Result<SpecialistOutcome, PipelineError> {
    write_json(&plan.run_dir.join("plan.json"), plan)?;
    let mut outcome = SpecialistOutcome {
        fetched: fetch(run, plan)?,
        manifest: None,
        trained: None,
        outcomes: Vec::new(),
    };
    let includes = |stage: Stage| plan.stages.contains(&stage) && !run.ends_before(stage);
    if includes(Stage::Prepare) {
        outcome.manifest = Some(prepare(run, plan, &outcome.fetched)?);
    }
    if includes(Stage::Train) {
        if let Some(manifest) = &outcome.manifest {
            keep_limits(plan, manifest)?;
        }
        outcome.trained = Some(train(run, plan, &outcome.fetched)?);
    }
    Ok(outcome)
}

/// Whether the data is what the recipe asks it to be.
///
/// # Errors
/// Every limit of the recipe that its data breaks.
pub fn keep_limits(plan: &SpecialistPlan, manifest: &Manifest) -> Result<(), PipelineError> {
    let broken = manifest.broken_limits(&plan.limits);
    if broken.is_empty() {
        return Ok(());
    }
    Err(PipelineError::Unusable {
        what: format!("the data of `{}` breaks its limits: {}", plan.name, broken.join("; ")),
        hint: "`synapse-train data report` shows why; mend the data, or raise the limits in the recipe".into(),
    })
}

fn prepare(run: &Run<'_>, plan: &SpecialistPlan, fetched: &Fetched) -> Result<Manifest, PipelineError> {
    let chat = Chat::open(&fetched.base.folder)?;
    let folder = data_folder(plan);
    let sources = identities(&fetched.sources);
    let requests: Vec<_> = fetched.requests.iter().map(|sources| identities(sources)).collect();
    let apart = plan
        .data
        .sources
        .iter()
        .filter_map(|source| source.held_out_file.as_deref());
    let apart = apart
        .map(synapse_checkpoint::sha256_file)
        .collect::<Result<Vec<_>, _>>()?;
    let mut asked_for = plan.data.sources.iter().flat_map(|source| &source.requests);
    let decontaminates = plan.data.decontaminate || asked_for.any(|requests| requests.data.decontaminate);
    let kept_out = plan
        .data
        .benchmarks
        .iter()
        .map(|path| synapse_checkpoint::sha256_file(path));
    let kept_out = kept_out.collect::<Result<Vec<_>, _>>()?;
    let asked = decontaminates.then(|| (questions(fetched), identities(&fetched.kept_out)));
    let shape = (
        plan.train.max_seq_len,
        plan.train.packing,
        plan.train.overlong,
        plan.train.loss_on,
        &plan.system_prompt,
    );
    let stage = StageRun {
        run,
        name: &plan.name,
        folder: &plan.run_dir,
        stage: Stage::Prepare,
        fingerprint: fingerprint(
            Stage::Prepare,
            &(
                &plan.data,
                shape,
                (synapse_data::FORMAT_VERSION, sources, requests),
                (apart, kept_out, asked),
                chat.template_hash(),
                chat.tokenizer_hash(),
                &plan.router,
            ),
        )?,
    };
    stage.execute(
        |_: &Manifest| {
            let files = ["manifest.json", "train.arrow", "origins.jsonl"];
            files.iter().all(|file| folder.join(file).is_file())
        },
        || {
            std::fs::create_dir_all(&plan.run_dir).map_err(PipelineError::io(&plan.run_dir))?;
            let staged = Staged::beside(&folder)?;
            let benchmarks = if decontaminates {
                benchmarks(fetched)?
            } else {
                Vec::new()
            };
            let request = PrepareRequest {
                plan: &plan.data,
                train: &plan.train,
                system_prompt: plan.system_prompt.as_deref(),
                files: fetched.sources.iter().map(|source| source.files()).collect(),
                request_files: fetched
                    .requests
                    .iter()
                    .map(|sources| sources.iter().map(FetchedSource::files).collect())
                    .collect(),
                benchmarks: &benchmarks,
                chat: &chat,
                out: staged.path(),
            };
            let manifest = synapse_data::prepare(&request, &|event| match event {
                PrepareEvent::Tokenized { done, total } => {
                    run.reporter.progress("rows tokenized", done as u64, Some(total as u64));
                }
                PrepareEvent::Warning(text) => run.reporter.note(&text),
                PrepareEvent::Reading { .. } | PrepareEvent::Read { .. } => {}
            })?;
            staged.publish()?;
            Ok(manifest)
        },
        |manifest| {
            format!(
                "{} rows, {} trained tokens, {} held out",
                manifest.train.rows, manifest.train.trained_tokens, manifest.held_out.rows
            )
        },
    )
}

fn identities(sources: &[FetchedSource]) -> Vec<Vec<(&str, &str)>> {
    sources.iter().map(FetchedSource::identity).collect()
}

/// Suite → name and sha256 of the files its questions are in.
pub(crate) type Questions<'a> = Vec<(&'a str, Vec<(&'a str, &'a str)>)>;

/// What identifies the questions that suites read from files.
pub(crate) fn questions(fetched: &Fetched) -> Questions<'_> {
    let suites = fetched.questions.iter();
    suites.map(|(suite, files)| (suite.id(), files.identity())).collect()
}

/// What the suites ask that is not among the held-out rows.
fn benchmarks(fetched: &Fetched) -> Result<Vec<Benchmark>, PipelineError> {
    let mut benchmarks = Vec::new();
    // a question that this recipe asks and another's requests are held against is read once
    let mut read = BTreeSet::new();
    let sources = fetched.questions.values().chain(&fetched.kept_out);
    for file in sources.flat_map(|source| source.files().files) {
        if !read.insert(file.local.clone()) {
            continue;
        }
        benchmarks.push(Benchmark {
            name: file.name.clone(),
            texts: synapse_data::read_texts(&file)?,
        });
    }
    Ok(benchmarks)
}

/// Passes the trainer's progress on.
struct Watch<'a> {
    name: &'a str,
    reporter: &'a dyn Reporter,
}

impl TrainingObserver for Watch<'_> {
    fn start(&mut self, done: u64, total: u64) {
        self.reporter.training(self.name, done, total);
    }

    fn step(&mut self, report: &StepReport) {
        self.reporter.step(report);
    }

    fn measuring(&mut self, done: u64, total: u64) {
        self.reporter.measuring(done, total);
    }

    fn held_out(&mut self, loss: &HeldOutReport) {
        self.reporter.held_out(loss);
    }
}

fn train(run: &Run<'_>, plan: &SpecialistPlan, fetched: &Fetched) -> Result<Trained, PipelineError> {
    let data = data_folder(plan);
    let missing = || PipelineError::Missing {
        name: plan.name.clone(),
        stage: Stage::Prepare,
    };
    let manifest = Manifest::read(&data.join("manifest.json")).map_err(|_| missing())?;
    let device = run.options.device.resolve(&plan.method)?;
    let inputs = (
        &manifest.train.sha256,
        &manifest.held_out.sha256,
        &fetched.base.hash,
        &fetched.base.name,
    );
    let fingerprint = fingerprint(
        Stage::Train,
        &(
            &plan.train,
            &plan.method,
            plan.quantization,
            plan.evaluate.every,
            &plan.router,
            device,
            inputs,
        ),
    )?;
    let stage = StageRun {
        run,
        name: &plan.name,
        folder: &plan.run_dir,
        stage: Stage::Train,
        fingerprint: fingerprint.clone(),
    };
    stage.execute(
        |trained: &Trained| artifact_hash(plan).is_ok_and(|hash| hash == trained.hash),
        || {
            let staged = Staged::beside(&plan.output)?;
            let outcome = train_into(run, plan, fetched, (device, &data, &fingerprint), staged.path())?;
            if let Some(router) = &plan.router {
                let description = synapse_data::routing::Router {
                    labels: router.labels.clone(),
                    system_prompt: trained_system_prompt(&data)?,
                    ..Default::default()
                };
                description.write(staged.path())?;
            }
            staged.publish()?;
            Ok(Trained {
                steps: outcome.steps,
                parameters: outcome.parameters,
                loss: outcome.loss,
                held_out_loss: outcome.held_out_loss,
                device,
                hash: artifact_hash(plan)?,
            })
        },
        |trained| {
            let held_out = trained
                .held_out_loss
                .map_or_else(String::new, |loss| format!(", held-out {loss:.4}"));
            format!("{} steps{held_out} → {}", trained.steps, plan.output.display())
        },
    )
}

/// The system turn that the prepared rows really carry: a router that is asked with another one was not trained for it.
fn trained_system_prompt(data: &Path) -> Result<String, PipelineError> {
    let rows = synapse_data::read_held_out(&data.join("held_out.jsonl"))?;
    let system = rows
        .iter()
        .find_map(|row| row.messages.first().filter(|message| message.role == "system"));
    Ok(system.map(|message| message.content.clone()).unwrap_or_default())
}

fn train_into(
    run: &Run<'_>,
    plan: &SpecialistPlan,
    fetched: &Fetched,
    (device, data, fingerprint): (Device, &Path, &str),
    out: &Path,
) -> Result<TrainOutcome, PipelineError> {
    let rows = PackedDataset::open(&data.join("train.arrow"))?;
    let held_out = PackedDataset::open(&data.join("held_out.arrow"))?;
    let (folder, config);
    let base = if fetched.base.from_scratch {
        config = ModelConfig::read(&fetched.base.folder)?;
        TrainingBase::RandomInit(&config)
    } else {
        folder = ModelFolder::open(&fetched.base.folder)?;
        TrainingBase::Folder(&folder)
    };
    let request = TrainRequest {
        plan: &plan.train,
        method: &plan.method,
        quantization: plan.quantization,
        device,
        base,
        base_name: &fetched.base.name,
        base_revision: fetched.base.revision.as_deref(),
        rows: &rows,
        held_out: &held_out,
        evaluate_every: plan.evaluate.every,
        run: &plan.run_dir,
        fingerprint,
        out,
        stop: run.stop,
    };
    let outcome = synapse_trainer::train(
        &request,
        &mut Watch {
            name: &plan.name,
            reporter: run.reporter,
        },
    )?;
    if plan.method == TrainingMethod::Full {
        synapse_export::copy_tokenizer_files(&fetched.base.folder, out)?;
    }
    Ok(outcome)
}

/// sha256 of what the recipe published.
pub(crate) fn artifact_hash(plan: &SpecialistPlan) -> Result<String, PipelineError> {
    Ok(match plan.method {
        TrainingMethod::Lora(_) => synapse_checkpoint::AdapterFolder::open(&plan.output)?.content_hash()?,
        TrainingMethod::Full => ModelFolder::open(&plan.output)?.content_hash()?,
    })
}

fn evaluate(
    run: &Run<'_>,
    plan: &SpecialistPlan,
    fetched: &Fetched,
    trained: &Trained,
) -> Result<Vec<Outcome>, PipelineError> {
    let data = data_folder(plan);
    let manifest = Manifest::read(&data.join("manifest.json"))?;
    let stage = StageRun {
        run,
        name: &plan.name,
        folder: &plan.run_dir,
        stage: Stage::Evaluate,
        fingerprint: fingerprint(
            Stage::Evaluate,
            &(
                &plan.evaluate,
                questions(fetched),
                &manifest.held_out.sha256,
                &fetched.base.hash,
                &trained.hash,
                &plan.system_prompt,
            ),
        )?,
    };
    stage.execute(
        |_: &Vec<Outcome>| true,
        || {
            let domain = Domain::open(plan, &data, fetched)?;
            let logs = Logs::open(&stage)?;
            let sample = TracedSample::of(plan, &plan.name);
            match plan.method {
                TrainingMethod::Full => {
                    let lab = Lab::open(&plan.output, &[], &LoadOptions::BF16)?;
                    logs.trace(&lab, &sample)?;
                    logs.done(domain.measure(run, &mut lab.subject(&plan.name, None), &logs)?)
                }
                TrainingMethod::Lora(_) => {
                    let lab = Lab::open(&fetched.base.folder, &[(&plan.name, &plan.output)], &LoadOptions::BF16)?;
                    let mut outcomes = domain.measure(run, &mut lab.subject("base", None), &logs)?;
                    outcomes.extend(domain.measure(run, &mut lab.subject(&plan.name, Some(&plan.name)), &logs)?);
                    logs.trace(&lab, &sample.under(&plan.name))?;
                    logs.done(outcomes)
                }
            }
        },
        |outcomes| format!("{} measurements", outcomes.len()),
    )
}
