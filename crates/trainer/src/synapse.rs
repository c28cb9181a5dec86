//! The Synapse architecture as the loop sees it: full training over the CPU kernels, and what its routers did.

use serde::{Deserialize, Serialize};
use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::models::synapse::{LayerUse, SynapseLora, SynapseModel};
use synapse_nn::{LoraOptions, MicroBatch, Parameter, Pass, Precision};

use crate::{TrainError, model::Model};

/// How a step's tokens were sent to the modules, as means over micro-batches and layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterReport {
    /// `n · Σ f P` over the choices that are balanced; 1 where they are used evenly.
    pub balance_loss: f64,
    /// Mean of the squared log-sum of the routers' exponentials.
    pub router_z_loss: f64,
    /// Entropy of the experts' loads over the step, relative to an even one.
    pub load_entropy: f64,
    /// Experts, of all layers, that no token of the step was sent to.
    pub dead_experts: u64,
    /// What the routers choose among.
    pub modules: Vec<String>,
    /// Share of the step's tokens that each layer's choices got, in that order.
    pub shares: Vec<Vec<f64>>,
}

/// What is trained of a Synapse model.
enum Trained {
    /// All of it.
    Whole(SynapseModel),
    /// An adapter over it.
    Adapter(SynapseLora),
}

/// A Synapse model in training.
pub(crate) struct Synapse {
    trained: Trained,
    uses: Vec<Vec<LayerUse>>,
    tokens: u64,
}

impl Synapse {
    pub(crate) fn whole(config: &ModelConfig, precision: Precision) -> Result<Self, TrainError> {
        Ok(Self::of(Trained::Whole(SynapseModel::new(config, precision)?)))
    }

    pub(crate) fn adapter(
        folder: &ModelFolder,
        precision: Precision,
        options: LoraOptions,
    ) -> Result<Self, TrainError> {
        Ok(Self::of(Trained::Adapter(SynapseLora::new(
            folder, precision, options,
        )?)))
    }

    pub(crate) fn random_adapter(
        config: &ModelConfig,
        precision: Precision,
        options: LoraOptions,
    ) -> Result<Self, TrainError> {
        Ok(Self::of(Trained::Adapter(SynapseLora::random(
            config, precision, options,
        )?)))
    }

    fn of(trained: Trained) -> Self {
        Self {
            trained,
            uses: Vec::new(),
            tokens: 0,
        }
    }
}

impl Model for Synapse {
    fn config(&self) -> &ModelConfig {
        match &self.trained {
            Trained::Whole(model) => model.config(),
            Trained::Adapter(adapter) => adapter.config(),
        }
    }

    fn layout(&self) -> &[Parameter] {
        match &self.trained {
            Trained::Whole(model) => model.layout(),
            Trained::Adapter(adapter) => adapter.layout(),
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        match &self.trained {
            Trained::Whole(model) => model.initial(seed),
            Trained::Adapter(adapter) => adapter.initial(seed),
        }
    }

    fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, TrainError> {
        match &self.trained {
            Trained::Whole(model) => Ok(model.read(folder)?),
            Trained::Adapter(_) => unreachable!("the loop reads a whole model for full training alone"),
        }
    }

    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        pass: &Pass,
    ) -> Result<f64, TrainError> {
        let passed = match &mut self.trained {
            Trained::Whole(model) => model.accumulate(parameters, gradients, batch, pass)?,
            Trained::Adapter(adapter) => adapter.accumulate(parameters, gradients, batch, pass)?,
        };
        self.uses.push(passed.layers);
        self.tokens += batch.tokens.len() as u64;
        Ok(passed.loss)
    }

    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, TrainError> {
        Ok(match &self.trained {
            Trained::Whole(model) => model.losses(parameters, batch)?,
            Trained::Adapter(adapter) => adapter.losses(parameters, batch)?,
        })
    }

    fn adjust(&mut self, parameters: &mut [f32]) {
        if let Trained::Whole(model) = &self.trained {
            model.adjust(parameters, &self.uses);
        }
    }

    fn router_report(&mut self) -> Option<RouterReport> {
        let uses = std::mem::take(&mut self.uses);
        let tokens = std::mem::take(&mut self.tokens).max(1);
        let mut layers = uses.first()?.clone();
        for later in &uses[1..] {
            for (sum, layer) in layers.iter_mut().zip(later) {
                sum.balance += layer.balance;
                sum.z += layer.z;
                sum.counts
                    .iter_mut()
                    .zip(&layer.counts)
                    .for_each(|(sum, count)| *sum += count);
            }
        }
        let mean = |of: &dyn Fn(&LayerUse) -> f64| layers.iter().map(of).sum::<f64>() / layers.len() as f64;
        let passes = uses.len() as f64;
        Some(RouterReport {
            balance_loss: mean(&|layer| layer.balance / passes),
            router_z_loss: mean(&|layer| layer.z / passes),
            load_entropy: mean(&LayerUse::load_entropy),
            dead_experts: layers.iter().map(|layer| layer.dead_experts() as u64).sum(),
            modules: match &self.trained {
                Trained::Whole(model) => model.choice_names(),
                Trained::Adapter(adapter) => adapter.choice_names(),
            },
            shares: layers
                .iter()
                .map(|layer| layer.counts.iter().map(|&count| count as f64 / tokens as f64).collect())
                .collect(),
        })
    }
}
