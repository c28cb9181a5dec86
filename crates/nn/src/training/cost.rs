//! What training costs: bytes by component and floating-point operations, from shapes alone.
//!
//! The forecast, the choice of recompute and the benchmark share these formulas, and tests and benchmarks hold
//! them to what is measured. Time is not here: it needs a measured rate.

use synapse_checkpoint::ModelConfig;
use synapse_kernels::Precision;

use super::loss::chunk_rows;
use crate::WeightDtype;

/// Trained and frozen parts of a model.
#[derive(Debug, Clone, Copy)]
pub enum Trained<'a> {
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
    /// What is trained.
    pub trained: Trained<'a>,
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
pub struct Memory {
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

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights + self.trainable + self.activations + self.workspace + self.logits
    }
}

/// Sizes that both budgets are made of.
struct Sizes {
    hidden: u64,
    query: u64,
    key: u64,
    mlp: u64,
    heads: u64,
    layers: u64,
    vocab: u64,
    /// Weights of all layers' linears.
    linear: u64,
    /// LoRA parameters.
    adapted: u64,
    rank: u64,
}

impl Workload<'_> {
    fn sizes(&self) -> Sizes {
        let config = self.config;
        let layers = config.num_hidden_layers as u64;
        let modules = config.linear_modules();
        let linear: u64 = modules.iter().map(|(_, output, input)| (output * input) as u64).sum();
        let (adapted, rank) = match self.trained {
            Trained::Full => (0, 0),
            Trained::Lora { rank, targets, .. } => {
                let wanted = modules
                    .iter()
                    .filter(|(module, _, _)| targets.iter().any(|target| module.ends_with(target.as_str())));
                let widths: usize = wanted.map(|(_, output, input)| output + input).sum();
                ((widths * rank) as u64, rank as u64)
            }
        };
        Sizes {
            hidden: config.hidden_size as u64,
            query: (config.num_attention_heads * config.head_dim) as u64,
            key: (config.num_key_value_heads * config.head_dim) as u64,
            mlp: config.intermediate_size as u64,
            heads: config.num_attention_heads as u64,
            layers,
            vocab: config.vocab_size as u64,
            linear: linear * layers,
            adapted: adapted * layers,
            rank,
        }
    }

    /// Trainable parameters.
    pub fn parameters(&self) -> u64 {
        match self.trained {
            Trained::Full => self.config.parameters(),
            Trained::Lora { .. } => self.sizes().adapted,
        }
    }

    /// Bytes at the peak.
    pub fn memory(&self) -> Memory {
        let s = self.sizes();
        let t = self.tokens as u64;
        // what products read is kept in their precision
        let kept = match self.precision {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        };
        let state = t
            * (kept * (2 * s.hidden + 2 * s.query + 2 * s.key + 3 * s.mlp + 7 * s.rank) + 4 * (s.hidden + 2 + s.heads));
        let layers_kept = if self.recompute { 1 } else { s.layers };
        let rotary = 4 * (self.config.max_position_embeddings * self.config.head_dim) as u64;
        Memory {
            weights: rotary + self.frozen_bytes(&s),
            trainable: 16 * self.parameters(),
            activations: 4 * t * s.hidden * s.layers + state * layers_kept,
            // gate, up or their gradients in f32, a copy of each for products, and six of the residual's width
            workspace: t * (8 * s.mlp + 2 * kept * s.mlp + 6 * 4 * s.hidden + 3 * kept * s.hidden),
            logits: chunk_rows(self.config.vocab_size).min(self.tokens) as u64 * s.vocab * (4 + kept),
        }
    }

    fn frozen_bytes(&self, s: &Sizes) -> u64 {
        let Trained::Lora { weights, .. } = self.trained else {
            return 0;
        };
        let rest = self.config.parameters() - s.linear;
        let wide = if self.precision == Precision::F32 { 4 } else { 2 };
        match weights {
            WeightDtype::F32 => 4 * (s.linear + rest),
            WeightDtype::Bf16 => 2 * (s.linear + rest),
            // half a byte a weight and one f32 a block of 64
            WeightDtype::Q4_0 => (s.linear + rest) / 32 * 18,
            WeightDtype::Q8_0 => (s.linear + rest) / 32 * 34,
            WeightDtype::Nf4 { .. } => s.linear / 2 + s.linear / 16 + wide * rest,
        }
    }

    /// Floating-point operations of forward and backward over one micro-batch, a multiplication and an addition
    /// counted as two; `trained_share` is the share of positions that are trained.
    pub fn flops(&self, trained_share: f64) -> f64 {
        let s = self.sizes();
        let (linear, adapted) = (s.linear as f64, s.adapted as f64);
        let weight_gradients = if matches!(self.trained, Trained::Full) {
            1.0
        } else {
            0.0
        };
        let head = s.vocab as f64 * s.hidden as f64 * trained_share;
        // a query sees half of its document: two products forward, five backward
        let seen = self.longest as f64 / 2.0;
        let attention = |products: f64| products * 2.0 * s.query as f64 * seen * s.layers as f64;
        let forward = 2.0 * linear + 2.0 * adapted + attention(2.0);
        let backward = (2.0 + 2.0 * weight_gradients) * linear + 4.0 * adapted + attention(5.0);
        let again = if self.recompute { forward } else { 0.0 };
        let head = (4.0 + 2.0 * weight_gradients) * head;
        self.tokens as f64 * (forward + backward + again + head)
    }
}
