//! The cost of a step's parts, from which the time of a run is estimated without loading the whole model.

use std::time::Instant;

use synapse_checkpoint::ModelConfig;
use synapse_nn::{LoadOptions, LoraOptions, TrainableScope, Workload};
use synapse_trainer::{Model, Optimizer, TrainError, backend::cpu};

use crate::step::{new_optimizer, random_batch, step_input};

/// Rounds of a measurement, at least.
const MIN_ROUNDS: usize = 2;
/// Rounds of a measurement, at most.
const MAX_ROUNDS: usize = 7;
/// No further round starts after this time.
const MAX_SECONDS: f64 = 3.0;

/// Seconds that each part of a training step takes.
#[derive(Debug, Clone, Copy)]
pub struct StepCost {
    /// Per token and layer, forward and backward.
    pub layer: f64,
    /// Per token for embedding, LM head and loss.
    pub rest: f64,
    /// Per trainable parameter for the optimizer update.
    pub update: f64,
}

impl StepCost {
    /// Measures the workload's model cut to one and to three layers, with random weights and a batch of which
    /// `target_share` are targets.
    ///
    /// The cost of a layer is half the difference. A disturbance of either measurement would distort it, so the two
    /// alternate and the fastest of several rounds counts.
    ///
    /// # Errors
    /// A target that the model does not have.
    pub fn measure(workload: &Workload<'_>, load: &LoadOptions, target_share: f64) -> Result<Self, TrainError> {
        const DEPTHS: [usize; 2] = [1, 3];
        let length = workload.longest.clamp(2, workload.tokens.max(2));
        let documents = (workload.tokens / length).max(1);
        let batch = random_batch(workload.config.vocab_size, documents, length, target_share);
        let input = step_input(std::slice::from_ref(&batch), workload.recompute);
        let mut candidates = Vec::with_capacity(DEPTHS.len());
        for depth in DEPTHS {
            let mut model = Self::model(workload, load, depth)?;
            let mut optimizer = new_optimizer(model.as_ref());
            // the first pass allocates buffers
            optimizer.accumulate(model.as_mut(), &input)?;
            candidates.push(Candidate {
                model,
                optimizer,
                pass_seconds: f64::INFINITY,
                update_seconds: f64::INFINITY,
            });
        }
        let started = Instant::now();
        for round in 0..MAX_ROUNDS {
            if round >= MIN_ROUNDS && started.elapsed().as_secs_f64() > MAX_SECONDS {
                break;
            }
            for candidate in &mut candidates {
                let start = Instant::now();
                candidate.optimizer.accumulate(candidate.model.as_mut(), &input)?;
                candidate.pass_seconds = candidate.pass_seconds.min(start.elapsed().as_secs_f64());
                let start = Instant::now();
                candidate.update(input.learning_rate);
                candidate.update_seconds = candidate.update_seconds.min(start.elapsed().as_secs_f64());
            }
        }
        let [shallow, deep] = [0, 1].map(|index: usize| candidates[index].pass_seconds / batch.tokens.len() as f64);
        let layer = ((deep - shallow) / (DEPTHS[1] - DEPTHS[0]) as f64).max(0.0);
        Ok(Self {
            layer,
            rest: (shallow - layer).max(0.0),
            update: candidates[1].update_seconds / candidates[1].model.parameters().max(1) as f64,
        })
    }

    /// The workload's model cut to `depth` layers.
    fn model(workload: &Workload<'_>, load: &LoadOptions, depth: usize) -> Result<Box<dyn Model>, TrainError> {
        let config = ModelConfig {
            num_hidden_layers: depth,
            ..workload.config.clone()
        };
        match workload.scope {
            TrainableScope::Full => cpu::full(&config, workload.precision),
            TrainableScope::Lora { rank, targets, .. } => {
                let options = LoraOptions {
                    rank,
                    scale: 1.0,
                    dropout: 0.05,
                    targets: targets.to_vec(),
                };
                cpu::lora_random(&config, load, options)
            }
        }
    }
}

/// A measured model, with the fastest of its rounds in seconds.
struct Candidate {
    model: Box<dyn Model>,
    optimizer: Optimizer,
    pass_seconds: f64,
    update_seconds: f64,
}

impl Candidate {
    fn update(&mut self, learning_rate: f64) {
        let norm = self.optimizer.gradient_norm(self.model.layout());
        self.optimizer.update(self.model.layout(), norm, learning_rate);
    }
}
