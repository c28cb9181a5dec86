//! A Synapse model behind the contract that all trainable models share; keeps its routers' statistics between calls.

use synapse_checkpoint::ModelConfig;

use crate::{LayerRouterStatistics, MicroBatch, NnError, Parameter, RouterStatistics, StepContext, TrainableModel};

use super::{SynapseLora, SynapseModel};

/// A Synapse model in training: all of it, or an adapter over it.
#[derive(Debug)]
pub struct TrainableSynapse {
    scope: Scope,
    micro_batches: usize,
    tokens: u64,
    /// Layer by layer, summed over the micro-batches; empty before the first.
    layers: Vec<LayerRouterStatistics>,
}

#[derive(Debug)]
enum Scope {
    Full(SynapseModel),
    Lora(SynapseLora),
}

impl From<SynapseModel> for TrainableSynapse {
    fn from(model: SynapseModel) -> Self {
        Self::new(Scope::Full(model))
    }
}

impl From<SynapseLora> for TrainableSynapse {
    fn from(adapter: SynapseLora) -> Self {
        Self::new(Scope::Lora(adapter))
    }
}

impl TrainableSynapse {
    fn new(scope: Scope) -> Self {
        Self {
            scope,
            micro_batches: 0,
            tokens: 0,
            layers: Vec::new(),
        }
    }
}

impl TrainableModel for TrainableSynapse {
    fn config(&self) -> &ModelConfig {
        match &self.scope {
            Scope::Full(model) => model.config(),
            Scope::Lora(adapter) => adapter.config(),
        }
    }

    fn layout(&self) -> &[Parameter] {
        match &self.scope {
            Scope::Full(model) => model.layout(),
            Scope::Lora(adapter) => adapter.layout(),
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        match &self.scope {
            Scope::Full(model) => model.initial(seed),
            Scope::Lora(adapter) => adapter.initial(seed),
        }
    }

    fn accumulate(
        &mut self,
        parameters: &[f32],
        gradients: &mut [f32],
        batch: &MicroBatch,
        context: &StepContext,
    ) -> Result<f64, NnError> {
        let output = match &mut self.scope {
            Scope::Full(model) => model.accumulate(parameters, gradients, batch, context)?,
            Scope::Lora(adapter) => adapter.accumulate(parameters, gradients, batch, context)?,
        };
        self.micro_batches += 1;
        self.tokens += batch.tokens.len() as u64;
        if self.layers.is_empty() {
            self.layers = output.layers;
        } else {
            self.layers
                .iter_mut()
                .zip(&output.layers)
                .for_each(|(sum, layer)| sum.add(layer));
        }
        Ok(output.loss)
    }

    fn losses(&mut self, parameters: &[f32], batch: &MicroBatch) -> Result<Vec<(f64, usize)>, NnError> {
        match &self.scope {
            Scope::Full(model) => model.losses(parameters, batch),
            Scope::Lora(adapter) => adapter.losses(parameters, batch),
        }
    }

    fn post_step(&mut self, parameters: &mut [f32]) {
        if let Scope::Full(model) = &self.scope {
            model.post_step(parameters, &self.layers);
        }
    }

    fn take_router_statistics(&mut self) -> Option<RouterStatistics> {
        let layers = std::mem::take(&mut self.layers);
        let micro_batches = std::mem::take(&mut self.micro_batches);
        let tokens = std::mem::take(&mut self.tokens);
        let modules = match &self.scope {
            Scope::Full(model) => model.choice_names(),
            Scope::Lora(adapter) => adapter.choice_names(),
        };
        (micro_batches > 0).then_some(RouterStatistics {
            modules,
            micro_batches,
            tokens,
            layers,
        })
    }
}
