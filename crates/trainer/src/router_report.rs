//! Router statistics of a training step, for mixture-of-experts models.

use serde::{Deserialize, Serialize};
use synapse_nn::{LayerRouterStatistics, RouterStatistics};

/// Router statistics of one optimizer step, as means over its micro-batches and the model's layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterReport {
    /// Load-balancing loss `n · Σ f P` over the balanced modules; 1 if they are used evenly.
    pub balance_loss: f64,
    /// Router z-loss: mean of the squared log-sum-exp of the router logits.
    pub router_z_loss: f64,
    /// Entropy of the experts' loads in the step, relative to that of an even load.
    pub load_entropy: f64,
    /// Experts, counted over all layers, that received no token in the step.
    pub dead_experts: u64,
    /// Names of the modules that the routers choose from.
    pub modules: Vec<String>,
    /// For each layer, the share of the step's tokens that each module received, in the order of `modules`.
    pub shares: Vec<Vec<f64>>,
}

impl From<RouterStatistics> for RouterReport {
    fn from(statistics: RouterStatistics) -> Self {
        let layers = &statistics.layers;
        let mean =
            |of: &dyn Fn(&LayerRouterStatistics) -> f64| layers.iter().map(of).sum::<f64>() / layers.len() as f64;
        let (passes, tokens) = (statistics.micro_batches as f64, statistics.tokens.max(1));
        Self {
            balance_loss: mean(&|layer| layer.balance / passes),
            router_z_loss: mean(&|layer| layer.z / passes),
            load_entropy: mean(&LayerRouterStatistics::load_entropy),
            dead_experts: layers.iter().map(|layer| layer.dead_experts() as u64).sum(),
            shares: layers
                .iter()
                .map(|layer| layer.counts.iter().map(|&count| count as f64 / tokens as f64).collect())
                .collect(),
            modules: statistics.modules,
        }
    }
}
