//! Synapse models on the CPU kernels, with the statistics of their routers.

use synapse_checkpoint::{ModelConfig, ModelFolder};
use synapse_nn::models::synapse::{LayerUse, SynapseLora, SynapseModel};
use synapse_nn::{LoraOptions, MicroBatch, Parameter, Pass, Precision};

use crate::{RouterReport, TrainError, model::Model};

/// What is trained of a Synapse model.
enum Trainable {
    /// All of its weights.
    Full(SynapseModel),
    /// A LoRA adapter on frozen weights.
    Lora(SynapseLora),
}

/// A Synapse model with the router statistics of the current step.
pub(crate) struct Synapse {
    trainable: Trainable,
    uses: Vec<Vec<LayerUse>>,
    tokens: u64,
}

impl Synapse {
    pub(crate) fn full(config: &ModelConfig, precision: Precision) -> Result<Self, TrainError> {
        Ok(Self::new(Trainable::Full(SynapseModel::new(config, precision)?)))
    }

    pub(crate) fn lora(folder: &ModelFolder, precision: Precision, options: LoraOptions) -> Result<Self, TrainError> {
        Ok(Self::new(Trainable::Lora(SynapseLora::new(
            folder, precision, options,
        )?)))
    }

    pub(crate) fn lora_random(
        config: &ModelConfig,
        precision: Precision,
        options: LoraOptions,
    ) -> Result<Self, TrainError> {
        Ok(Self::new(Trainable::Lora(SynapseLora::random(
            config, precision, options,
        )?)))
    }

    fn new(trainable: Trainable) -> Self {
        Self {
            trainable,
            uses: Vec::new(),
            tokens: 0,
        }
    }
}

impl Model for Synapse {
    fn config(&self) -> &ModelConfig {
        match &self.trainable {
            Trainable::Full(model) => model.config(),
            Trainable::Lora(adapter) => adapter.config(),
        }
    }

    fn layout(&self) -> &[Parameter] {
        match &self.trainable {
            Trainable::Full(model) => model.layout(),
            Trainable::Lora(adapter) => adapter.layout(),
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        match &self.trainable {
            Trainable::Full(model) => model.initial(seed),
            Trainable::Lora(adapter) => adapter.initial(seed),
        }
    }

    fn read_full(&self, folder: &ModelFolder) -> Result<Vec<f32>, TrainError> {
        match &self.trainable {
            Trainable::Full(model) => Ok(model.read(folder)?),
            Trainable::Lora(_) => unreachable!("weights are read as initial values only for full training"),
        }
    }

    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        pass: &Pass,
    ) -> Result<f64, TrainError> {
        let passed = match &mut self.trainable {
            Trainable::Full(model) => model.accumulate(parameters, gradients, batch, pass)?,
            Trainable::Lora(adapter) => adapter.accumulate(parameters, gradients, batch, pass)?,
        };
        self.uses.push(passed.layers);
        self.tokens += batch.tokens.len() as u64;
        Ok(passed.loss)
    }

    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, TrainError> {
        Ok(match &self.trainable {
            Trainable::Full(model) => model.losses(parameters, batch)?,
            Trainable::Lora(adapter) => adapter.losses(parameters, batch)?,
        })
    }

    fn post_step(&mut self, parameters: &mut [f32]) {
        if let Trainable::Full(model) = &self.trainable {
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
            modules: match &self.trainable {
                Trainable::Full(model) => model.choice_names(),
                Trainable::Lora(adapter) => adapter.choice_names(),
            },
            shares: layers
                .iter()
                .map(|layer| layer.counts.iter().map(|&count| count as f64 / tokens as f64).collect())
                .collect(),
        })
    }
}
