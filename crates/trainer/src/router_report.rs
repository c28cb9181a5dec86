//! Router statistics of a training step, for mixture-of-experts models.

use serde::{Deserialize, Serialize};

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
