//! The number of optimizer steps and the learning rate of each, as in transformers.

use synapse_recipe::{Scheduler, TrainPlan};

/// Number of steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Micro-batches of one pass over the rows; the last may be smaller.
    pub micro_batches_per_epoch: u64,
    /// Optimizer steps of one pass, including one for a partial accumulation group at its end.
    pub per_epoch: u64,
    /// Optimizer steps of the run.
    pub total: u64,
}

impl Steps {
    /// `N = ceil(epochs · max(1, ceil(micro-batches / accumulation)))`, or `max_steps`.
    pub fn new(plan: &TrainPlan, rows: usize) -> Self {
        let micro_batches_per_epoch = (rows as u64).div_ceil(plan.batch_size as u64);
        let per_epoch = micro_batches_per_epoch
            .div_ceil(plan.gradient_accumulation as u64)
            .max(1);
        let total = plan
            .max_steps
            .unwrap_or_else(|| (plan.epochs * per_epoch as f64).ceil() as u64);
        Self {
            micro_batches_per_epoch,
            per_epoch,
            total,
        }
    }

    /// The micro-batches of an optimizer step, numbered within its epoch.
    pub(crate) fn micro_batches(&self, plan: &TrainPlan, step: u64) -> std::ops::Range<u64> {
        let accumulated = plan.gradient_accumulation as u64;
        let first = step % self.per_epoch * accumulated;
        first..(first + accumulated).min(self.micro_batches_per_epoch)
    }
}

/// The learning rate as a function of the step.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    scheduler: Scheduler,
    peak: f64,
    warmup: u64,
    warmup_start: WarmupStart,
    total: u64,
}

/// The learning rate of the first warmup step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmupStart {
    /// Zero, as in transformers: step `i` takes `peak · i / warmup`.
    Zero,
    /// The first fraction of the peak: step `i` takes `peak · (i + 1) / warmup`.
    FirstFraction,
}

impl Schedule {
    /// Warmup over `ceil(total · warmup_ratio)` steps, then the plan's shape.
    pub fn new(plan: &TrainPlan, total: u64) -> Self {
        let warmup = (total as f64 * plan.warmup_ratio).ceil() as u64;
        Self {
            scheduler: plan.scheduler,
            peak: plan.learning_rate,
            warmup,
            warmup_start: WarmupStart::Zero,
            total,
        }
    }

    /// Warmup over `warmup` steps, then half a cosine from the peak to zero.
    pub fn cosine(peak: f64, warmup: u64, total: u64) -> Self {
        Self {
            scheduler: Scheduler::Cosine,
            peak,
            warmup,
            warmup_start: WarmupStart::Zero,
            total,
        }
    }

    /// The same schedule with another start of the warmup.
    #[must_use]
    pub fn warmup_start(self, warmup_start: WarmupStart) -> Self {
        Self { warmup_start, ..self }
    }

    /// Learning rate of the step with this index, from 0.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            let step = match self.warmup_start {
                WarmupStart::Zero => step,
                WarmupStart::FirstFraction => step + 1,
            };
            return self.peak * step as f64 / self.warmup.max(1) as f64;
        }
        let progress = (step - self.warmup) as f64 / (self.total.saturating_sub(self.warmup)).max(1) as f64;
        let factor = match self.scheduler {
            Scheduler::Constant => 1.0,
            Scheduler::Linear => 1.0 - progress,
            Scheduler::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.peak * factor.max(0.0)
    }
}
