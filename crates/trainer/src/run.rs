//! The training loop: optimizer steps, metrics, held-out losses and checkpoints.

use std::sync::atomic::Ordering;
use std::time::Instant;

use synapse_checkpoint::DType;
use synapse_data::PackedRow;
use synapse_nn::MicroBatch;
use synapse_recipe::TrainingMethod;

use crate::{
    AdamWOptions, Optimizer, StepInput, TrainError, TrainOutcome, TrainRequest, TrainingBase, TrainingObserver,
    TrainingState,
    artifact::{self, BaseName},
    backend,
    checkpoint::Checkpoints,
    metrics::{HeldOutReport, Metric, Recorder, StepReport},
    model::Model,
    schedule::{Schedule, Steps},
    shuffle::ShuffleSampler,
    workload::workload,
};

/// Tokens of one forward pass of the held-out loss, at least.
const EVALUATION_TOKENS: usize = 2048;

/// Trains and writes the artifact.
///
/// # Errors
/// An unusable request, unreadable inputs, a loss that is not finite, or a requested stop.
pub fn train(request: &TrainRequest<'_>, observer: &mut dyn TrainingObserver) -> Result<TrainOutcome, TrainError> {
    let steps = Steps::new(request.plan, request.rows.train.len());
    if request.rows.train.is_empty() || steps.total == 0 {
        return Err(TrainError::Unusable {
            what: format!(
                "{} training rows give {} optimizer steps",
                request.rows.train.len(),
                steps.total
            ),
            hint: "raise `samples`, `epochs` or `max_steps`, or loosen the filters".into(),
        });
    }
    let workload = workload(
        request.plan,
        request.method,
        request.quantization,
        request.base.config(),
    );
    let mut model = backend::load(request)?;
    let checkpoints = Checkpoints::new(request.run, request.fingerprint);
    let state = match checkpoints.newest(model.parameters())? {
        Some(state) => state,
        None => TrainingState::new(initial(request, model.as_ref())?),
    };
    let recorder = Recorder::open(request.run, state.step)?;
    observer.start(state.step, steps.total);
    let mut run = Run {
        request,
        steps,
        schedule: Schedule::new(request.plan, steps.total),
        sampler: ShuffleSampler::new(request.rows.train.len(), request.plan.batch_size, request.plan.seed),
        optimizer: Optimizer::new(state, AdamWOptions::from(request.plan)),
        recorder,
        recompute: workload.recompute,
        loss: f64::NAN,
    };
    while run.done() < steps.total {
        let report = run.step(model.as_mut())?;
        run.loss = report.loss;
        observer.step(&report);
        run.recorder.record(&Metric::Step(report))?;
        let (done, every) = (run.done(), request.plan.checkpoint_every);
        if request.evaluate_every > 0 && done.is_multiple_of(request.evaluate_every) && done < steps.total {
            run.measure(model.as_mut(), observer)?;
        }
        // Save the last step too: measuring the held-out loss after it can take as long as the steps.
        let stop = run.is_stopped();
        if stop || done == steps.total || (every > 0 && done.is_multiple_of(every)) {
            checkpoints.save(run.optimizer.state())?;
        }
        if stop {
            return Err(run.interrupted());
        }
    }
    let held_out_loss = run.measure(model.as_mut(), observer)?;
    write(request, model.as_ref(), &run.optimizer.state().parameters)?;
    checkpoints.clear()?;
    Ok(TrainOutcome {
        steps: steps.total,
        parameters: model.parameters() as u64,
        loss: run.loss,
        held_out_loss,
    })
}

fn initial(request: &TrainRequest<'_>, model: &dyn Model) -> Result<Vec<f32>, TrainError> {
    match (request.method, &request.base) {
        (TrainingMethod::Full, TrainingBase::Folder(folder)) => Ok(model.read_full(folder)?),
        _ => Ok(model.initial(request.plan.seed)),
    }
}

fn write(request: &TrainRequest<'_>, model: &dyn Model, values: &[f32]) -> Result<(), TrainError> {
    match request.method {
        TrainingMethod::Lora(plan) => {
            let base = BaseName {
                path: request.base_name,
                revision: request.base_revision,
            };
            artifact::write_lora(request.out, plan, &base, model.layout(), values)
        }
        TrainingMethod::Full => artifact::write_full(request.out, model, values, DType::BF16),
    }
}

/// The state of the loop.
struct Run<'a> {
    request: &'a TrainRequest<'a>,
    steps: Steps,
    schedule: Schedule,
    sampler: ShuffleSampler,
    optimizer: Optimizer,
    recorder: Recorder,
    recompute: bool,
    loss: f64,
}

impl Run<'_> {
    /// Optimizer steps done.
    fn done(&self) -> u64 {
        self.optimizer.state().step
    }

    /// One optimizer step over the next accumulation group.
    fn step(&mut self, model: &mut dyn Model) -> Result<StepReport, TrainError> {
        let start = Instant::now();
        let plan = self.request.plan;
        let done = self.done();
        let (epoch, step_in_epoch) = (done / self.steps.per_epoch, done % self.steps.per_epoch);
        let mut indices = Vec::new();
        for index in self.steps.micro_batches(plan, done) {
            indices.extend_from_slice(self.sampler.micro_batch(epoch, index));
        }
        let rows: Vec<PackedRow> = indices
            .iter()
            .map(|&index| self.request.rows.train.row(index))
            .collect();
        let batches = model.micro_batches(&rows, plan.batch_size)?;
        let learning_rate = self.schedule.learning_rate(done);
        let input = StepInput {
            batches: &batches,
            rows: &indices,
            seed: plan.seed,
            learning_rate,
            recompute: self.recompute,
        };
        let result = self.optimizer.step(model, &input)?;
        Ok(StepReport {
            step: self.done(),
            epoch: epoch as f64 + (step_in_epoch + 1) as f64 / self.steps.per_epoch as f64,
            loss: result.loss,
            learning_rate,
            grad_norm: result.grad_norm,
            tokens: batches.iter().map(|batch| batch.tokens.len() as u64).sum(),
            target_tokens: result.target_tokens as u64,
            seconds: start.elapsed().as_secs_f64(),
            router: model.router_report(),
        })
    }

    fn is_stopped(&self) -> bool {
        self.request.stop.load(Ordering::Relaxed)
    }

    fn interrupted(&self) -> TrainError {
        TrainError::Interrupted {
            step: self.done(),
            total: self.steps.total,
        }
    }

    /// Measures the held-out loss, records and reports it.
    fn measure(
        &mut self,
        model: &mut dyn Model,
        observer: &mut dyn TrainingObserver,
    ) -> Result<Option<f64>, TrainError> {
        let (mut sum, mut tokens) = (0.0, 0usize);
        let mut batch = MicroBatch::default();
        let rows = self.request.rows.held_out.len();
        for index in 0..rows {
            let row = self.request.rows.held_out.row(index);
            batch.push(&row.input_ids, &row.labels, &row.seq_lengths);
            if batch.tokens.len() >= EVALUATION_TOKENS || index + 1 == rows {
                // A resumed run repeats the last measurement, but an earlier one would be missing from its metrics.
                if self.is_stopped() && self.done() == self.steps.total {
                    return Err(self.interrupted());
                }
                observer.measuring(index as u64, rows as u64);
                for (loss, count) in model.losses(&self.optimizer.state().parameters, &batch)? {
                    sum += loss;
                    tokens += count;
                }
                batch = MicroBatch::default();
            }
        }
        if tokens == 0 {
            return Ok(None);
        }
        let loss = HeldOutReport {
            step: self.done(),
            held_out_loss: sum / tokens as f64,
            held_out_tokens: tokens as u64,
        };
        observer.held_out(&loss);
        let value = loss.held_out_loss;
        self.recorder.record(&Metric::HeldOut(loss))?;
        Ok(Some(value))
    }
}
