//! What training a decoder costs: bytes by component and floating-point operations, from shapes alone.

use synapse_kernels::Precision;

use crate::{TrainableScope, TrainingMemory, WeightDtype, Workload};

use super::training::logit_rows;

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

impl Sizes {
    fn new(workload: &Workload<'_>) -> Self {
        let config = workload.config;
        let layers = config.num_hidden_layers as u64;
        let modules = config.linear_modules();
        let linear: u64 = modules.iter().map(|(_, output, input)| (output * input) as u64).sum();
        let (adapted, rank) = match workload.scope {
            TrainableScope::Full => (0, 0),
            TrainableScope::Lora { rank, targets, .. } => {
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
}

/// Number of trainable parameters.
pub(super) fn trainable_parameters(workload: &Workload<'_>) -> u64 {
    match workload.scope {
        TrainableScope::Full => workload.config.parameters(),
        TrainableScope::Lora { .. } => Sizes::new(workload).adapted,
    }
}

/// Bytes at the peak.
pub(super) fn memory(workload: &Workload<'_>) -> TrainingMemory {
    let s = Sizes::new(workload);
    let t = workload.tokens as u64;
    // bytes of a value that only products read
    let operand_bytes = match workload.precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    let state = t
        * (operand_bytes * (2 * s.hidden + 2 * s.query + 2 * s.key + 3 * s.mlp + 7 * s.rank)
            + 4 * (s.hidden + 2 + s.heads));
    // queries and keys before their norms, in f32 because its gradient reads them
    let (config, key_heads) = (workload.config, workload.config.num_key_value_heads as u64);
    let head_norms = u64::from(config.qk_norm) * 4 * t * (s.query + s.key + s.heads + key_heads);
    let state = state + head_norms;
    let layers_saved = if workload.recompute { 1 } else { s.layers };
    let rotary = 4 * (workload.config.max_position_embeddings * workload.config.head_dim) as u64;
    TrainingMemory {
        weights: rotary + frozen_bytes(workload, &s),
        trainable: 16 * trainable_parameters(workload),
        activations: 4 * t * s.hidden * s.layers + state * layers_saved,
        // gate, up or their gradients in f32, a copy of each for products, and six of the residual's width
        workspace: t * (8 * s.mlp + 2 * operand_bytes * s.mlp + 6 * 4 * s.hidden + 3 * operand_bytes * s.hidden),
        logits: logit_rows(workload.config.vocab_size).min(workload.tokens) as u64 * s.vocab * (4 + operand_bytes),
    }
}

fn frozen_bytes(workload: &Workload<'_>, s: &Sizes) -> u64 {
    let TrainableScope::Lora { weights, .. } = workload.scope else {
        return 0;
    };
    let rest = workload.config.parameters() - s.linear;
    let wide = if workload.precision == Precision::F32 { 4 } else { 2 };
    match weights {
        WeightDtype::F32 => 4 * (s.linear + rest),
        WeightDtype::Bf16 => 2 * (s.linear + rest),
        // half a byte a weight and one f32 a block of 64
        WeightDtype::Q4_0 => (s.linear + rest) / 32 * 18,
        WeightDtype::Q8_0 => (s.linear + rest) / 32 * 34,
        WeightDtype::Nf4 { .. } => s.linear / 2 + s.linear / 16 + wide * rest,
    }
}

/// Floating-point operations of forward and backward over one micro-batch.
pub(super) fn flops(workload: &Workload<'_>, target_share: f64) -> f64 {
    let s = Sizes::new(workload);
    let (linear, adapted) = (s.linear as f64, s.adapted as f64);
    let weight_gradients = if matches!(workload.scope, TrainableScope::Full) {
        1.0
    } else {
        0.0
    };
    let head = s.vocab as f64 * s.hidden as f64 * target_share;
    // a query sees half of its document: two products forward, five backward
    let seen = workload.longest as f64 / 2.0;
    let attention = |products: f64| products * 2.0 * s.query as f64 * seen * s.layers as f64;
    let forward = 2.0 * linear + 2.0 * adapted + attention(2.0);
    let backward = (2.0 + 2.0 * weight_gradients) * linear + 4.0 * adapted + attention(5.0);
    let again = if workload.recompute { forward } else { 0.0 };
    let head = (4.0 + 2.0 * weight_gradients) * head;
    workload.tokens as f64 * (forward + backward + again + head)
}
