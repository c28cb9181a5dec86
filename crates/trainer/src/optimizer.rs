//! One optimizer step: accumulate gradients over micro-batches, clip, update with AdamW.
//!
//! Parameters, gradients and both moments are flat f32 buffers in the order of the model's layout.
//! What this is not: the loop. It reads no rows, records nothing and knows no schedule.

use synapse_kernels::adamw::{AdamW, State, sum_of_squares};
use synapse_nn::{MicroBatch, Parameter, StepContext};
use synapse_recipe::TrainPlan;

use crate::{TrainError, model::Model};

/// AdamW's settings that stay the same from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// Decoupled weight decay of the parameters that decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 turns clipping off.
    pub max_grad_norm: f64,
}

impl Default for AdamWOptions {
    /// torch's defaults, without weight decay and without clipping.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 0.0,
        }
    }
}

impl From<&TrainPlan> for AdamWOptions {
    fn from(plan: &TrainPlan) -> Self {
        Self {
            beta1: plan.adam_beta1,
            beta2: plan.adam_beta2,
            epsilon: plan.adam_epsilon,
            weight_decay: plan.weight_decay,
            max_grad_norm: plan.max_grad_norm,
        }
    }
}

/// Everything that an optimizer step changes, and therefore everything that a checkpoint holds.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingState {
    /// The trainable values.
    pub parameters: Vec<f32>,
    /// AdamW's first moments.
    pub first: Vec<f32>,
    /// AdamW's second moments.
    pub second: Vec<f32>,
    /// Optimizer steps done.
    pub step: u64,
}

impl TrainingState {
    /// The state before the first step.
    #[must_use]
    pub fn new(parameters: Vec<f32>) -> Self {
        let zeros = vec![0.0; parameters.len()];
        Self {
            first: zeros.clone(),
            second: zeros,
            parameters,
            step: 0,
        }
    }
}

/// The input of one optimizer step.
#[derive(Debug, Clone, Copy)]
pub struct StepInput<'a> {
    /// The micro-batches whose gradients are accumulated.
    pub batches: &'a [MicroBatch],
    /// Indices of the dataset rows in `batches`, for the error message; empty if they do not come from a dataset.
    pub rows: &'a [usize],
    /// Seeds the dropout masks, together with the step's number.
    pub seed: u64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Whether the backward pass computes the layers' activations again instead of storing them.
    pub recompute: bool,
}

/// The result of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepResult {
    /// Mean negative log-likelihood per target token, in nats.
    pub loss: f64,
    /// Global L2 norm of the gradients, before clipping.
    pub grad_norm: f64,
    /// Tokens that contributed to the loss.
    pub target_tokens: usize,
}

/// The training state with its gradient buffer and AdamW's settings.
#[derive(Debug, Clone)]
pub struct Optimizer {
    state: TrainingState,
    gradients: Vec<f32>,
    options: AdamWOptions,
}

impl Optimizer {
    /// Starts or continues from a state.
    #[must_use]
    pub fn new(state: TrainingState, options: AdamWOptions) -> Self {
        Self {
            gradients: vec![0.0; state.parameters.len()],
            state,
            options,
        }
    }

    /// The state after the last step.
    #[must_use]
    pub fn state(&self) -> &TrainingState {
        &self.state
    }

    /// Accumulates the gradients of the micro-batches, clips them and updates the parameters.
    ///
    /// # Errors
    /// A batch that the model refuses, or a loss or gradient norm that is not finite; the parameters are then unchanged.
    pub fn step(&mut self, model: &mut dyn Model, input: &StepInput<'_>) -> Result<StepResult, TrainError> {
        let (loss, target_tokens) = self.accumulate(model, input)?;
        let grad_norm = self.gradient_norm(model.layout());
        for (what, value) in [("loss", loss), ("gradient norm", grad_norm)] {
            if !value.is_finite() {
                return Err(TrainError::NotFinite {
                    step: self.state.step + 1,
                    what,
                    value,
                    rows: input.rows.to_vec(),
                });
            }
        }
        self.update(model.layout(), grad_norm, input.learning_rate);
        model.post_step(&mut self.state.parameters);
        Ok(StepResult {
            loss,
            grad_norm,
            target_tokens,
        })
    }

    /// Replaces the gradients by those of the micro-batches' mean loss. Returns that loss and its number of target tokens.
    ///
    /// # Errors
    /// A batch that the model refuses.
    pub fn accumulate(&mut self, model: &mut dyn Model, input: &StepInput<'_>) -> Result<(f64, usize), TrainError> {
        let targets: usize = input.batches.iter().map(MicroBatch::num_targets).sum();
        self.gradients.fill(0.0);
        let mut sum = 0.0;
        for (index, batch) in input.batches.iter().enumerate() {
            let context = StepContext {
                scale: 1.0 / targets.max(1) as f32,
                key: [input.seed, self.state.step, index as u64],
                recompute: input.recompute,
            };
            sum += model.accumulate(&self.state.parameters, &mut self.gradients, batch, &context)?;
        }
        Ok((sum / targets.max(1) as f64, targets))
    }

    /// Global L2 norm of the gradients, before clipping.
    #[must_use]
    pub fn gradient_norm(&self, layout: &[Parameter]) -> f64 {
        layout
            .iter()
            .map(|parameter| sum_of_squares(&self.gradients[parameter.range.clone()]))
            .sum::<f64>()
            .sqrt()
    }

    /// One AdamW update, with the gradients clipped to `max_grad_norm`.
    pub fn update(&mut self, layout: &[Parameter], norm: f64, learning_rate: f64) {
        let options = self.options;
        let clip = if options.max_grad_norm > 0.0 {
            (options.max_grad_norm / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        let mut adamw = AdamW {
            learning_rate: learning_rate as f32,
            beta1: options.beta1 as f32,
            beta2: options.beta2 as f32,
            epsilon: options.epsilon as f32,
            weight_decay: 0.0,
            step: self.state.step + 1,
            gradient_scale: clip as f32,
        };
        for parameter in layout {
            let range = parameter.range.clone();
            adamw.weight_decay = if parameter.decays {
                options.weight_decay as f32
            } else {
                0.0
            };
            adamw.update(State {
                parameters: &mut self.state.parameters[range.clone()],
                first: &mut self.state.first[range.clone()],
                second: &mut self.state.second[range.clone()],
                gradients: &self.gradients[range],
            });
        }
        self.state.step += 1;
    }
}
