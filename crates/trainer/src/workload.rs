//! What a plan costs in memory and arithmetic, and therefore whether the backward pass recomputes activations.

use synapse_checkpoint::ModelConfig;
use synapse_data::PackedDataset;
use synapse_nn::{LoadOptions, Precision, TrainableScope, WeightDtype, Workload};
use synapse_recipe::{ComputeDtype, QuantizationPlan, Recompute, TrainPlan, TrainingMethod};

use crate::{process_memory::available_bytes, schedule::Steps, shuffle::ShuffleSampler};

/// Share of the available memory that a run plans to use.
const USABLE_SHARE: f64 = 0.8;

/// Storage and compute precision of a plan's frozen weights.
pub fn load_options(plan: &TrainPlan, quantization: QuantizationPlan) -> LoadOptions {
    let precision = match plan.compute_dtype {
        ComputeDtype::F32 => Precision::F32,
        ComputeDtype::Bf16 => Precision::Bf16,
    };
    let dtype = match (quantization, precision) {
        (QuantizationPlan::Nf4 { double_quant, .. }, _) => WeightDtype::Nf4 { double_quant },
        (QuantizationPlan::None, Precision::F32) => WeightDtype::F32,
        (QuantizationPlan::None, Precision::Bf16) => WeightDtype::Bf16,
    };
    LoadOptions { dtype, precision }
}

/// A plan's largest possible micro-batch on a model of this shape.
pub fn workload<'a>(
    plan: &TrainPlan,
    method: &'a TrainingMethod,
    quantization: QuantizationPlan,
    config: &'a ModelConfig,
) -> Workload<'a> {
    let load = load_options(plan, quantization);
    let scope = match method {
        TrainingMethod::Full => TrainableScope::Full,
        TrainingMethod::Lora(lora) => TrainableScope::Lora {
            rank: lora.rank,
            targets: &lora.targets,
            weights: load.dtype,
        },
    };
    let stored = Workload {
        config,
        scope,
        precision: load.precision,
        tokens: plan.batch_size * plan.max_seq_len,
        longest: plan.max_seq_len,
        recompute: false,
    };
    Workload {
        recompute: recomputes(plan.recompute, &stored, available_bytes()),
        ..stored
    }
}

/// Tokens of the largest micro-batch of a run over these rows, and of its longest document. They determine the run's peak
/// memory. `None` without rows.
pub fn largest_micro_batch(plan: &TrainPlan, rows: &PackedDataset) -> Option<(usize, usize)> {
    let steps = Steps::new(plan, rows.len());
    let lengths: Vec<(usize, usize)> = (0..rows.len())
        .map(|index| {
            let documents = rows.document_lengths(index);
            (documents.iter().sum(), documents.iter().copied().max().unwrap_or(0))
        })
        .collect();
    let mut sampler = ShuffleSampler::new(rows.len(), plan.batch_size, plan.seed);
    let mut largest = None;
    for step in 0..steps.total {
        for index in steps.micro_batches(plan, step) {
            let batch = sampler.micro_batch(step / steps.per_epoch, index);
            let tokens: usize = batch.iter().map(|&row| lengths[row].0).sum();
            let longest = batch.iter().map(|&row| lengths[row].1).max().unwrap_or(0);
            largest = largest.max(Some((tokens, longest)));
        }
    }
    largest
}

/// Whether a plan recomputes activations: `auto` does so only if storing them would not fit into the available memory.
/// The results are bit-identical either way.
fn recomputes(setting: Recompute, stored: &Workload<'_>, available: Option<u64>) -> bool {
    match (setting, available) {
        (Recompute::Always, _) => true,
        (Recompute::Never, _) => false,
        // without knowing the available memory, use as little as possible
        (Recompute::Auto, None) => true,
        (Recompute::Auto, Some(bytes)) => stored.memory().total() as f64 > USABLE_SHARE * bytes as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_stores_activations_if_they_fit() {
        let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100,
            "max_position_embeddings": 64}"#;
        let Ok(config) = ModelConfig::from_json(config, "config.json".as_ref()) else {
            unreachable!("the configuration is complete")
        };
        let stored = Workload {
            config: &config,
            scope: TrainableScope::Full,
            precision: Precision::F32,
            tokens: 128,
            longest: 64,
            recompute: false,
        };
        let total = stored.memory().total();
        assert!(!recomputes(Recompute::Auto, &stored, Some(2 * total)));
        assert!(recomputes(Recompute::Auto, &stored, Some(total)));
        assert!(recomputes(Recompute::Auto, &stored, None));
        assert!(recomputes(Recompute::Always, &stored, Some(2 * total)));
        assert!(!recomputes(Recompute::Never, &stored, Some(total)));
    }
}
