//! The loop: accumulate, clip, step, record, now and then measure and save.

use std::sync::atomic::Ordering;
use std::time::Instant;

use synapse_checkpoint::DType;
use synapse_data::PackedDataset;
use synapse_nn::{MicroBatch, Pass};
use synapse_recipe::Method;

use crate::{
    Observer, TrainError, TrainOutcome, TrainRequest, TrainingBase,
    artifact::{self, BaseName},
    budget::workload,
    checkpoint::Checkpoints,
    metrics::{HeldOutLoss, Metric, Recorder, StepReport},
    model::{self, Model},
    order::RowOrder,
    schedule::{Schedule, Steps},
    state::{Optimizer, TrainingState},
};

/// Rows whose losses are taken in one forward pass.
const EVALUATION_TOKENS: usize = 2048;

/// Trains and writes the artifact.
///
/// # Errors
/// Unusable requests, unreadable inputs, a loss that is not finite, or a requested stop.
pub fn train(request: &TrainRequest<'_>, observer: &mut dyn Observer) -> Result<TrainOutcome, TrainError> {
    let steps = Steps::new(request.plan, request.rows.len());
    if request.rows.is_empty() || steps.total == 0 {
        return Err(TrainError::Unusable {
            what: format!("{} training rows give {} steps", request.rows.len(), steps.total),
            hint: "raise samples, epochs or max_steps, or loosen the filters".into(),
        });
    }
    let workload = workload(
        request.plan,
        request.method,
        request.quantization,
        request.base.config(),
    );
    let mut model = model::load(request)?;
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
        order: RowOrder::new(request.rows.len(), request.plan.batch_size, request.plan.seed),
        gradients: vec![0.0; model.parameters()],
        state,
        recorder,
        recompute: workload.recompute,
        loss: f64::NAN,
    };
    while run.state.step < steps.total {
        let report = run.step(model.as_mut())?;
        run.loss = report.loss;
        observer.step(&report);
        run.recorder.record(&Metric::Step(report))?;
        let (done, every) = (run.state.step, request.plan.checkpoint_every);
        if request.evaluate_every > 0 && done.is_multiple_of(request.evaluate_every) && done < steps.total {
            run.measure(model.as_mut(), observer)?;
        }
        // The last step is kept too: measuring what it led to can take as long as the steps.
        let stop = run.is_stopped();
        if stop || done == steps.total || (every > 0 && done.is_multiple_of(every)) {
            checkpoints.save(&run.state)?;
        }
        if stop {
            return Err(run.interrupted());
        }
    }
    let held_out_loss = run.measure(model.as_mut(), observer)?;
    write(request, model.as_ref(), &run.state.parameters)?;
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
        (Method::Full, TrainingBase::Folder(folder)) => Ok(model.read_full(folder)?),
        _ => Ok(model.initial(request.plan.seed)),
    }
}

fn write(request: &TrainRequest<'_>, model: &dyn Model, values: &[f32]) -> Result<(), TrainError> {
    match request.method {
        Method::Lora(plan) => {
            let base = BaseName {
                path: request.base_name,
                revision: request.base_revision,
            };
            artifact::write_lora(request.out, plan, &base, model.layout(), values)
        }
        Method::Full => artifact::write_full(request.out, model, values, DType::BF16),
    }
}

/// The state of the loop.
struct Run<'a> {
    request: &'a TrainRequest<'a>,
    steps: Steps,
    schedule: Schedule,
    order: RowOrder,
    gradients: Vec<f32>,
    state: TrainingState,
    recorder: Recorder,
    recompute: bool,
    loss: f64,
}

impl Run<'_> {
    /// One optimizer step.
    fn step(&mut self, model: &mut dyn Model) -> Result<StepReport, TrainError> {
        let start = Instant::now();
        let plan = self.request.plan;
        let (epoch, place) = (
            self.state.step / self.steps.per_epoch,
            self.state.step % self.steps.per_epoch,
        );
        let mut rows = Vec::new();
        let mut batches = Vec::new();
        for index in self.steps.micro_batches(plan, self.state.step) {
            let indices = self.order.micro_batch(epoch, index);
            rows.extend_from_slice(indices);
            batches.push(micro_batch(self.request.rows, indices));
        }
        let trained: usize = batches.iter().map(MicroBatch::trained).sum();
        self.gradients.fill(0.0);
        let mut sum = 0.0;
        for (micro, batch) in batches.iter().enumerate() {
            let key = [plan.seed, self.state.step, micro as u64];
            let pass = Pass {
                scale: 1.0 / trained.max(1) as f32,
                key,
                recompute: self.recompute,
            };
            sum += model.accumulate(&self.state.parameters, &mut self.gradients, batch, &pass)?;
        }
        let loss = sum / trained.max(1) as f64;
        let norm = TrainingState::gradient_norm(model.layout(), &self.gradients);
        for (what, value) in [("loss", loss), ("gradient norm", norm)] {
            if !value.is_finite() {
                return Err(TrainError::NotFinite {
                    step: self.state.step + 1,
                    what,
                    value,
                    rows,
                });
            }
        }
        let learning_rate = self.schedule.learning_rate(self.state.step);
        self.state.update(
            model.layout(),
            &self.gradients,
            norm,
            learning_rate,
            &Optimizer::of(plan),
        );
        model.adjust(&mut self.state.parameters);
        Ok(StepReport {
            step: self.state.step,
            epoch: epoch as f64 + (place + 1) as f64 / self.steps.per_epoch as f64,
            loss,
            learning_rate,
            grad_norm: norm,
            tokens: batches.iter().map(|batch| batch.tokens.len() as u64).sum(),
            trained_tokens: trained as u64,
            seconds: start.elapsed().as_secs_f64(),
            router: model.router_report(),
        })
    }

    fn is_stopped(&self) -> bool {
        self.request.stop.load(Ordering::Relaxed)
    }

    fn interrupted(&self) -> TrainError {
        TrainError::Interrupted {
            step: self.state.step,
            total: self.steps.total,
        }
    }

    /// The held-out loss now, recorded and reported.
    fn measure(&mut self, model: &mut dyn Model, observer: &mut dyn Observer) -> Result<Option<f64>, TrainError> {
        let (mut sum, mut tokens) = (0.0, 0usize);
        let mut batch = MicroBatch::default();
        let rows = self.request.held_out.len();
        for index in 0..rows {
            let row = self.request.held_out.row(index);
            batch.push(&row.input_ids, &row.labels, &row.seq_lengths);
            if batch.tokens.len() >= EVALUATION_TOKENS || index + 1 == rows {
                // The last measurement is made again by the run that goes on; an earlier one would be missing from its metrics.
                if self.is_stopped() && self.state.step == self.steps.total {
                    return Err(self.interrupted());
                }
                observer.measuring(index as u64, rows as u64);
                for (loss, count) in model.losses(&self.state.parameters, &batch)? {
                    sum += loss;
                    tokens += count;
                }
                batch = MicroBatch::default();
            }
        }
        if tokens == 0 {
            return Ok(None);
        }
        let loss = HeldOutLoss {
            step: self.state.step,
            held_out_loss: sum / tokens as f64,
            held_out_tokens: tokens as u64,
        };
        observer.held_out(&loss);
        let value = loss.held_out_loss;
        self.recorder.record(&Metric::HeldOut(loss))?;
        Ok(Some(value))
    }
}

fn micro_batch(rows: &PackedDataset, indices: &[usize]) -> MicroBatch {
    let mut batch = MicroBatch::default();
    for &index in indices {
        let row = rows.row(index);
        batch.push(&row.input_ids, &row.labels, &row.seq_lengths);
    }
    batch
}
