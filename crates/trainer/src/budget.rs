//! What a plan costs in memory, and so whether layers are computed again in the backward pass.

use synapse_checkpoint::ModelConfig;
use synapse_data::PackedDataset;
use synapse_nn::{LoadOptions, Memory, Precision, Trained, WeightDtype, Workload};
use synapse_recipe::{ComputeDtype, Method, Quantization, Recompute, TrainPlan};

use crate::{order::RowOrder, probe::available_bytes, schedule::Steps};

/// Share of the memory that programs may still take which a run plans with.
const USABLE: f64 = 0.8;

/// How a plan loads its base.
pub fn load_options(plan: &TrainPlan, quantization: Quantization) -> LoadOptions {
    let precision = match plan.compute_dtype {
        ComputeDtype::F32 => Precision::F32,
        ComputeDtype::Bf16 => Precision::Bf16,
    };
    let dtype = match (quantization, precision) {
        (Quantization::Nf4 { double_quant, .. }, _) => WeightDtype::Nf4 { double_quant },
        (Quantization::None, Precision::F32) => WeightDtype::F32,
        (Quantization::None, Precision::Bf16) => WeightDtype::Bf16,
    };
    LoadOptions { dtype, precision }
}

/// A plan's largest micro-batch on a model of this shape.
pub fn workload<'a>(
    plan: &TrainPlan,
    method: &'a Method,
    quantization: Quantization,
    config: &'a ModelConfig,
) -> Workload<'a> {
    let load = load_options(plan, quantization);
    let trained = match method {
        Method::Full => Trained::Full,
        Method::Lora(lora) => Trained::Lora {
            rank: lora.rank,
            targets: &lora.targets,
            weights: load.dtype,
        },
    };
    let kept = Workload {
        config,
        trained,
        precision: load.precision,
        tokens: plan.batch_size * plan.max_seq_len,
        longest: plan.max_seq_len,
        recompute: false,
    };
    Workload {
        recompute: recomputes(plan.recompute, &kept, available_bytes()),
        ..kept
    }
}

/// Bytes by component at the peak of training, whatever the architecture.
pub fn memory(workload: &Workload<'_>) -> Memory {
    match &workload.config.synapse {
        None => workload.memory(),
        Some(_) => synapse_nn::models::synapse::memory(workload),
    }
}

/// How many values a workload trains, whatever the architecture.
pub fn trained_parameters(workload: &Workload<'_>) -> u64 {
    match &workload.config.synapse {
        None => workload.parameters(),
        Some(_) => synapse_nn::models::synapse::trained_parameters(workload),
    }
}

/// Floating-point operations of a step, whatever the architecture.
pub(crate) fn flops(workload: &Workload<'_>, trained_share: f64) -> f64 {
    match &workload.config.synapse {
        None => workload.flops(trained_share),
        Some(_) => synapse_nn::models::synapse::flops(workload, trained_share),
    }
}

/// The largest micro-batch that a run over these rows sees, and its longest document: what the peak of its memory comes
/// from. `None` of a run without rows.
pub fn largest_micro_batch(plan: &TrainPlan, rows: &PackedDataset) -> Option<(usize, usize)> {
    let steps = Steps::new(plan, rows.len());
    let lengths: Vec<(usize, usize)> = (0..rows.len())
        .map(|index| {
            let documents = rows.row(index).seq_lengths;
            let longest = documents.iter().copied().max().unwrap_or(0);
            (documents.iter().sum::<u32>() as usize, longest as usize)
        })
        .collect();
    let mut order = RowOrder::new(rows.len(), plan.batch_size, plan.seed);
    let mut largest = None;
    for step in 0..steps.total {
        for index in steps.micro_batches(plan, step) {
            let batch = order.micro_batch(step / steps.per_epoch, index);
            let tokens: usize = batch.iter().map(|&row| lengths[row].0).sum();
            let longest = batch.iter().map(|&row| lengths[row].1).max().unwrap_or(0);
            largest = largest.max(Some((tokens, longest)));
        }
    }
    largest
}

/// What `auto` comes to: layers are computed again only where keeping their activations would not fit.
/// The results are the same bits either way.
fn recomputes(asked: Recompute, kept: &Workload<'_>, available: Option<u64>) -> bool {
    match (asked, available) {
        (Recompute::Always, _) => true,
        (Recompute::Never, _) => false,
        // a system that does not tell is not filled
        (Recompute::Auto, None) => true,
        (Recompute::Auto, Some(bytes)) => memory(kept).total() as f64 > USABLE * bytes as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_keeps_activations_where_they_fit() {
        let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 100,
            "max_position_embeddings": 64}"#;
        let Ok(config) = ModelConfig::from_json(config, "config.json".as_ref()) else {
            unreachable!("the configuration is complete")
        };
        let kept = Workload {
            config: &config,
            trained: Trained::Full,
            precision: Precision::F32,
            tokens: 128,
            longest: 64,
            recompute: false,
        };
        let total = kept.memory().total();
        assert!(!recomputes(Recompute::Auto, &kept, Some(2 * total)));
        assert!(recomputes(Recompute::Auto, &kept, Some(total)));
        assert!(recomputes(Recompute::Auto, &kept, None));
        assert!(recomputes(Recompute::Always, &kept, Some(2 * total)));
        assert!(!recomputes(Recompute::Never, &kept, Some(total)));
    }
}
