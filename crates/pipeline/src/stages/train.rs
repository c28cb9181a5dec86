//! The train stage of a recipe: the adapter or model is trained and published.

use std::path::Path;

use serde::{Deserialize, Serialize};
use synapse_checkpoint::{ModelConfig, ModelFolder, Staged};
use synapse_data::{Manifest, PackedDataset};
use synapse_recipe::{SpecialistPlan, Stage, TrainingMethod};
use synapse_trainer::{
    Device, HeldOutReport, StepReport, TrainOutcome, TrainRequest, TrainingBase, TrainingObserver, TrainingRows,
};

use crate::{
    Fetched, PipelineError, Reporter, Run,
    record::{StageRun, fingerprint},
    run_dir::RunDir,
};

/// What training did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSummary {
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

/// The trainer's progress, reported under the recipe's name.
struct TrainingReporter<'a> {
    name: &'a str,
    reporter: &'a dyn Reporter,
}

impl TrainingObserver for TrainingReporter<'_> {
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

/// Trains a recipe on its prepared data.
pub(crate) fn train(
    run: &Run<'_>,
    plan: &SpecialistPlan,
    fetched: &Fetched,
    manifest: &Manifest,
) -> Result<TrainingSummary, PipelineError> {
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
        |trained: &TrainingSummary| artifact_hash(plan).is_ok_and(|hash| hash == trained.hash),
        || {
            let staged = Staged::beside(&plan.output)?;
            let outcome = train_into(run, plan, fetched, (device, &fingerprint), staged.path())?;
            if let Some(router) = &plan.router {
                let description = synapse_data::routing::Router {
                    labels: router.labels.clone(),
                    system_prompt: trained_system_prompt(plan)?,
                    ..Default::default()
                };
                description.write(staged.path())?;
            }
            staged.publish()?;
            Ok(TrainingSummary {
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

/// The system turn of the prepared rows. A router must be asked with the one it was trained with.
fn trained_system_prompt(plan: &SpecialistPlan) -> Result<String, PipelineError> {
    let rows = synapse_data::read_held_out(&RunDir::new(&plan.run_dir).held_out_text())?;
    let system = rows
        .iter()
        .find_map(|row| row.messages.first().filter(|message| message.role == "system"));
    Ok(system.map(|message| message.content.clone()).unwrap_or_default())
}

fn train_into(
    run: &Run<'_>,
    plan: &SpecialistPlan,
    fetched: &Fetched,
    (device, fingerprint): (Device, &str),
    out: &Path,
) -> Result<TrainOutcome, PipelineError> {
    let files = RunDir::new(&plan.run_dir);
    let rows = PackedDataset::open(&files.train_rows())?;
    let held_out = PackedDataset::open(&files.held_out_rows())?;
    let (folder, config);
    let base = if fetched.base.from_scratch {
        config = ModelConfig::read(&fetched.base.folder)?;
        TrainingBase::RandomInit(&config)
    } else {
        folder = ModelFolder::open(&fetched.base.folder)?;
        TrainingBase::Folder(&folder)
    };
    let rows = TrainingRows {
        train: &rows,
        held_out: &held_out,
    };
    let mut request = TrainRequest::new(&plan.train, &plan.method, base, rows, &plan.run_dir, out);
    request.quantization = plan.quantization;
    request.device = device;
    request.base_name = &fetched.base.name;
    request.base_revision = fetched.base.revision.as_deref();
    request.evaluate_every = plan.evaluate.every;
    request.fingerprint = fingerprint;
    request.stop = run.stop;
    let outcome = synapse_trainer::train(
        &request,
        &mut TrainingReporter {
            name: &plan.name,
            reporter: run.reporter,
        },
    )?;
    if plan.method == TrainingMethod::Full {
        synapse_export::copy_tokenizer_files(&fetched.base.folder, out)?;
    }
    Ok(outcome)
}

/// sha256 of the published weights.
pub(crate) fn artifact_hash(plan: &SpecialistPlan) -> Result<String, PipelineError> {
    Ok(match plan.method {
        TrainingMethod::Lora(_) => synapse_checkpoint::AdapterFolder::open(&plan.output)?.content_hash()?,
        TrainingMethod::Full => ModelFolder::open(&plan.output)?.content_hash()?,
    })
}
