//! The optimizer's state: parameters and both moments in flat f32 buffers.

use synapse_kernels::adamw::{AdamW, State, sum_of_squares};
use synapse_nn::Parameter;
use synapse_recipe::TrainPlan;

/// AdamW's settings that stay the same from step to step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Optimizer {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) epsilon: f64,
    /// Of the parameters that decay.
    pub(crate) weight_decay: f64,
    /// Gradients are scaled down to this norm; 0 leaves them.
    pub(crate) max_grad_norm: f64,
}

impl Optimizer {
    pub(crate) fn of(plan: &TrainPlan) -> Self {
        Self {
            beta1: plan.adam_beta1,
            beta2: plan.adam_beta2,
            epsilon: plan.adam_epsilon,
            weight_decay: plan.weight_decay,
            max_grad_norm: plan.max_grad_norm,
        }
    }
}

/// Everything that an optimizer step changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrainingState {
    pub(crate) parameters: Vec<f32>,
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
    /// Optimizer steps done.
    pub(crate) step: u64,
}

impl TrainingState {
    pub(crate) fn new(parameters: Vec<f32>) -> Self {
        let zeros = vec![0.0; parameters.len()];
        Self {
            first: zeros.clone(),
            second: zeros,
            parameters,
            step: 0,
        }
    }

    /// Global L2 norm of the gradients, before clipping.
    pub(crate) fn gradient_norm(layout: &[Parameter], gradients: &[f32]) -> f64 {
        layout
            .iter()
            .map(|parameter| sum_of_squares(&gradients[parameter.range.clone()]))
            .sum::<f64>()
            .sqrt()
    }

    /// One AdamW update with clipping to the optimizer's `max_grad_norm`.
    pub(crate) fn update(
        &mut self,
        layout: &[Parameter],
        gradients: &[f32],
        norm: f64,
        learning_rate: f64,
        optimizer: &Optimizer,
    ) {
        let clip = if optimizer.max_grad_norm > 0.0 {
            (optimizer.max_grad_norm / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        let mut options = AdamW {
            learning_rate: learning_rate as f32,
            beta1: optimizer.beta1 as f32,
            beta2: optimizer.beta2 as f32,
            epsilon: optimizer.epsilon as f32,
            weight_decay: 0.0,
            step: self.step + 1,
            gradient_scale: clip as f32,
        };
        for parameter in layout {
            let range = parameter.range.clone();
            options.weight_decay = if parameter.decays {
                optimizer.weight_decay as f32
            } else {
                0.0
            };
            options.update(State {
                parameters: &mut self.parameters[range.clone()],
                first: &mut self.first[range.clone()],
                second: &mut self.second[range.clone()],
                gradients: &gradients[range],
            });
        }
        self.step += 1;
    }
}
