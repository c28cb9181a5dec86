//! What training costs, from shapes alone: the workload, and the bytes it takes by component.
//!
//! The forecast, the choice of recompute and the benchmark share these; tests and benchmarks compare them with what is
//! measured. The formulas are each family's, in its `cost.rs`. What this is not: time, which needs a measured rate.

use synapse_checkpoint::ModelConfig;
use synapse_kernels::Precision;

use crate::WeightDtype;

/// Which parameters are trained.
#[derive(Debug, Clone, Copy)]
pub enum TrainableScope<'a> {
    /// LoRA of one rank over frozen weights.
    Lora {
        /// Rank of every module.
        rank: usize,
        /// Suffixes of the adapted modules.
        targets: &'a [String],
        /// Storage of the frozen weights.
        weights: WeightDtype,
    },
    /// Every weight, in f32.
    Full,
}

/// One kind of micro-batch on one model.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// The model's shape.
    pub config: &'a ModelConfig,
    /// Which parameters are trained.
    pub scope: TrainableScope<'a>,
    /// Rounding of products, and so the format of activations.
    pub precision: Precision,
    /// Tokens of a micro-batch.
    pub tokens: usize,
    /// Tokens of its longest document.
    pub longest: usize,
    /// Whether layers are computed again in the backward pass.
    pub recompute: bool,
}

/// Bytes by component at the peak of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingMemory {
    /// Frozen weights and rotary tables.
    pub weights: u64,
    /// Trainable parameters, gradients and both moments, f32.
    pub trainable: u64,
    /// Layer inputs and what layers keep for the backward pass.
    pub activations: u64,
    /// Buffers in use at once inside a layer.
    pub workspace: u64,
    /// Logits of one chunk.
    pub logits: u64,
}

impl TrainingMemory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.trainable + self.activations + self.workspace + self.logits
    }
}
