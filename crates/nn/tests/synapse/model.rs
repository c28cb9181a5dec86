//! The whole model against itself: prompts and steps, one and many, gradients and differences.

use synapse_checkpoint::{DType, ModelConfig};
use synapse_kernels::random::Stream;
use synapse_nn::models::synapse::{StepOutput, SynapseCausalLm, SynapseModel};
use synapse_nn::{CausalLm, KvCache, LanguageModel, LogitsFor, MicroBatch, Phase, Precision, Sequence, StepContext};

fn config(routing: &str, slstm_every: usize) -> ModelConfig {
    let text = format!(
        r#"{{ "architectures": ["SynapseForCausalLM"], "model_type": "synapse", "hidden_size": 24, "num_hidden_layers": 2,
        "vocab_size": 40, "max_position_embeddings": 8192, "routing": "{routing}", "modules_per_token": 2,
        "num_experts": 3, "expert_intermediate_size": 20, "router_inner_size": 16, "router_state_size": 4,
        "language_inner_size": 16, "language_num_heads": 2, "slstm_every": {slstm_every}, "memory_num_heads": 2,
        "memory_key_size": 6, "memory_value_size": 5, "initializer_range": 0.2, "balance_loss_coefficient": 0.05,
        "router_z_loss_coefficient": 0.02 }}"#
    );
    ModelConfig::from_json(&text, "config.json".as_ref()).unwrap()
}

fn all() -> Vec<ModelConfig> {
    let mut configs = Vec::new();
    for routing in ["dispatch", "sequential"] {
        for slstm_every in [0, 2] {
            configs.push(config(routing, slstm_every));
        }
    }
    configs
}

/// A model with weights that are all in play: the norms' and biases' too.
fn model(config: &ModelConfig) -> (SynapseModel, Vec<f32>) {
    let model = SynapseModel::new(config, Precision::F32).unwrap();
    let mut values = model.initial(3);
    let stream = Stream::new(&[99]);
    for (i, value) in values.iter_mut().enumerate() {
        *value += 0.05 * stream.normal(i as u64);
    }
    (model, values)
}

fn tokens(seed: u64, count: usize) -> Vec<u32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.bits(i) % 40).collect()
}

fn batch(lengths: &[usize]) -> MicroBatch {
    let mut batch = MicroBatch::default();
    for (index, &length) in lengths.iter().enumerate() {
        let ids = tokens(index as u64, length);
        let labels: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        batch.push(&ids, &labels, &[length as u32]);
    }
    batch
}

const PASS: StepContext = StepContext {
    scale: 0.02,
    key: [0; 3],
    recompute: false,
};

/// Logits of all of `tokens`, fed in pieces of these sizes.
fn read(served: &SynapseCausalLm, cache: &mut KvCache, tokens: &[u32], pieces: &[usize], phase: Phase) -> Vec<f32> {
    let mut logits = Vec::new();
    let mut rest = tokens;
    for &piece in pieces {
        let (now, later) = rest.split_at(piece);
        rest = later;
        let sequence = Sequence {
            tokens: now,
            cache,
            phase,
            adapter: None,
            logits: LogitsFor::All,
        };
        logits.extend(served.forward(&mut [sequence]).unwrap().remove(0));
    }
    logits
}

fn assert_close(left: &[f32], right: &[f32], tolerance: f32, what: &str) {
    assert_eq!(left.len(), right.len(), "{what}");
    for (i, (l, r)) in left.iter().zip(right).enumerate() {
        assert!((l - r).abs() <= tolerance * (1.0 + r.abs()), "{what} {i}: {l} and {r}");
    }
}

#[test]
fn a_prompt_in_pieces_gives_the_same_bits_and_steps_the_same_numbers() {
    for config in all() {
        let (model, values) = model(&config);
        let served = SynapseCausalLm::new(model, values);
        let ids = tokens(5, 70);
        let whole = read(&served, &mut served.new_cache(), &ids, &[70], Phase::Prefill);
        let pieces = read(&served, &mut served.new_cache(), &ids, &[1, 33, 20, 16], Phase::Prefill);
        assert_eq!(whole, pieces);
        let steps = read(&served, &mut served.new_cache(), &ids, &[1; 70], Phase::Decode);
        assert_close(&steps, &whole, 1e-4, "step");
    }
}

#[test]
fn training_in_chunks_and_serving_by_steps_agree() {
    for config in all() {
        let (model, values) = model(&config);
        let batch = batch(&[1, 90, 17]);
        let losses = model.losses(&values, &batch).unwrap();
        let served = SynapseCausalLm::new(model, values);
        for (index, (&length, (sum, count))) in batch.lengths.iter().zip(&losses).enumerate() {
            let ids = tokens(index as u64, length);
            let logits = read(&served, &mut served.new_cache(), &ids, &[length], Phase::Prefill);
            let expected: f64 = (0..length - 1)
                .map(|t| {
                    let row = &logits[t * 40..(t + 1) * 40];
                    let largest = row.iter().copied().fold(f32::MIN, f32::max);
                    let sum: f64 = row.iter().map(|&x| f64::from(x - largest).exp()).sum();
                    f64::from(largest) + sum.ln() - f64::from(row[ids[t + 1] as usize])
                })
                .sum();
            assert_eq!(*count, length - 1);
            assert!((sum - expected).abs() < 1e-4 * (1.0 + expected), "{sum} and {expected}");
        }
    }
}

#[test]
fn sequences_of_a_batch_get_the_bits_they_get_alone() {
    for config in all() {
        let (model, values) = model(&config);
        let served = SynapseCausalLm::new(model, values);
        let (first, second) = (tokens(1, 19), tokens(2, 45));
        let alone =
            [&first, &second].map(|ids| read(&served, &mut served.new_cache(), ids, &[ids.len()], Phase::Prefill));
        let (mut a, mut b, mut c) = (served.new_cache(), served.new_cache(), served.new_cache());
        // a third sequence generates beside them
        read(&served, &mut c, &[7, 8], &[2], Phase::Prefill);
        let sequence = |tokens, cache, phase| Sequence {
            tokens,
            cache,
            phase,
            adapter: None,
            logits: LogitsFor::All,
        };
        let mut batch = [
            sequence(&first[..], &mut a, Phase::Prefill),
            sequence(&[9][..], &mut c, Phase::Decode),
            sequence(&second[..], &mut b, Phase::Prefill),
        ];
        let together = served.forward(&mut batch).unwrap();
        assert_eq!(together[0], alone[0]);
        assert_eq!(together[2], alone[1]);
    }
}

/// What `accumulate` differentiates: the scaled loss and the auxiliary losses at the weight of the trained tokens.
fn objective(model: &SynapseModel, passed: &StepOutput, batch: &MicroBatch) -> f64 {
    let modules = model.config().synapse.as_ref().unwrap();
    let scale = f64::from(PASS.scale);
    let share = scale * batch.num_targets() as f64 / passed.layers.len() as f64;
    let auxiliary: f64 = passed
        .layers
        .iter()
        .map(|layer| modules.balance_loss * layer.balance + modules.router_z_loss * layer.z)
        .sum();
    scale * passed.loss + share * auxiliary
}

/// Which modules every token is sent to, layer by layer.
fn choices(model: &SynapseModel, values: &[f32], batch: &MicroBatch) -> Vec<bool> {
    let served = SynapseCausalLm::new(model.clone(), values.to_vec());
    let mut rest = batch.tokens.as_slice();
    let mut chosen = Vec::new();
    for &length in &batch.lengths {
        let (tokens, others) = rest.split_at(length);
        rest = others;
        let trace = served.trace(tokens, None).unwrap().unwrap();
        let weights = trace.layers.iter().flat_map(|layer| layer.weights.iter().flatten());
        chosen.extend(weights.map(|&weight| weight > 0.0));
    }
    chosen
}

#[test]
fn gradients_are_differences_and_reach_every_tensor() {
    for config in all() {
        let (model, values) = model(&config);
        let batch = batch(&[90, 1, 60]);
        let mut gradients = vec![0.0; values.len()];
        let passed = model.accumulate(&values, &mut gradients, &batch, &PASS).unwrap();
        assert!(passed.loss.is_finite());
        let chosen = choices(&model, &values, &batch);
        let mut compared = 0;
        for (index, parameter) in model.layout().iter().enumerate() {
            let gradient = &gradients[parameter.range.clone()];
            let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-9, "{} has no gradient", parameter.name);
            // along the gradient, with a part across it
            let stream = Stream::new(&[17, index as u64]);
            let direction: Vec<f64> = gradient
                .iter()
                .enumerate()
                .map(|(i, g)| {
                    f64::from(*g) / norm + 0.3 * f64::from(stream.normal(i as u64)) / (gradient.len() as f64).sqrt()
                })
                .collect();
            let expected: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * d).sum();
            // steep places bend: the steeper, the shorter
            let step = 2e-3 / (1.0 + norm);
            let moved = |by: f64| {
                let mut moved = values.clone();
                for (value, d) in moved[parameter.range.clone()].iter_mut().zip(&direction) {
                    *value += (by * d) as f32;
                }
                let mut unused = vec![0.0; moved.len()];
                let passed = model.accumulate(&moved, &mut unused, &batch, &PASS).unwrap();
                let same = choices(&model, &moved, &batch) == chosen;
                (objective(&model, &passed, &batch), same)
            };
            // Richardson's extrapolation of two central differences: the memory's norms bend the function sharply
            let points = [step, -step, step / 2.0, -step / 2.0].map(moved);
            if points.iter().any(|(_, same)| !same) {
                // a token went to another module in between: there the function jumps
                continue;
            }
            compared += 1;
            let slopes = [(0, 1, step), (2, 3, step / 2.0)]
                .map(|(above, below, step)| (points[above].0 - points[below].0) / (2.0 * step));
            let slope = (4.0 * slopes[1] - slopes[0]) / 3.0;
            assert!(
                (slope - expected).abs() < 0.02 * (expected.abs() + 0.02),
                "{}: {slope} by differences, {expected} by the gradient",
                parameter.name
            );
        }
        assert!(
            compared * 4 > model.layout().len() * 3,
            "only {compared} tensors could be compared"
        );
    }
}

#[test]
fn documents_beside_each_other_are_documents_alone_and_recomputing_changes_no_bit() {
    for config in all() {
        let (model, values) = model(&config);
        let together = batch(&[33, 50]);
        let mut gradients = vec![0.0; values.len()];
        let passed = model.accumulate(&values, &mut gradients, &together, &PASS).unwrap();
        let mut again = vec![0.0; values.len()];
        let pass = StepContext {
            recompute: true,
            ..PASS
        };
        let repeated = model.accumulate(&values, &mut again, &together, &pass).unwrap();
        assert_eq!(passed, repeated);
        assert_eq!(gradients, again);

        let mut loss = 0.0;
        let losses = model.losses(&values, &together).unwrap();
        for (index, length) in [33usize, 50].into_iter().enumerate() {
            let mut single = MicroBatch::default();
            let ids = tokens(index as u64, length);
            let labels: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
            single.push(&ids, &labels, &[length as u32]);
            let alone = model.losses(&values, &single).unwrap();
            assert!((alone[0].0 - losses[index].0).abs() < 1e-4 * alone[0].0);
            loss += alone[0].0;
        }
        assert!((loss - passed.loss).abs() < 1e-4 * loss);
    }
}

#[test]
fn eight_thousand_tokens_stay_finite() {
    for config in all() {
        let (model, values) = model(&config);
        let batch = batch(&[8192]);
        let mut gradients = vec![0.0; values.len()];
        let passed = model.accumulate(&values, &mut gradients, &batch, &PASS).unwrap();
        assert!(passed.loss.is_finite());
        assert!(gradients.iter().all(|gradient| gradient.is_finite()));
    }
}

#[test]
fn losses_under_the_trait_are_the_models_own() {
    let (model, values) = model(&config("dispatch", 2));
    let batch = batch(&[20]);
    let expected = model.losses(&values, &batch).unwrap();
    let served = SynapseCausalLm::new(model, values);
    assert_eq!(served.document_losses(&batch, None).unwrap(), expected);
}

#[test]
fn a_trace_says_who_fired() {
    let (model, values) = model(&config("dispatch", 2));
    let served = SynapseCausalLm::new(model, values);
    let trace = served.trace(&tokens(4, 30), None).unwrap().unwrap();
    assert_eq!(
        trace.modules,
        ["language", "expert 0", "expert 1", "expert 2", "memory"]
    );
    assert_eq!(trace.layers.len(), 2);
    for layer in &trace.layers {
        assert_eq!(
            (layer.weights.len(), layer.writes.len(), layer.reads.len()),
            (30, 30, 30)
        );
        for (weights, write) in layer.weights.iter().zip(&layer.writes) {
            assert_eq!(weights.iter().filter(|&&weight| weight > 0.0).count(), 2);
            assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert_eq!(weights[4] > 0.0, *write > 0.0);
        }
    }
}

/// A search replaces tensors of a loaded model: afterwards it is the model of the new values.
#[test]
fn every_tensor_can_be_replaced() {
    for config in all() {
        let (model, values) = model(&config);
        let mut served = SynapseCausalLm::new(model.clone(), model.initial(7));
        for parameter in model.layout() {
            let mut bytes = Vec::new();
            DType::F32.extend_bytes(&values[parameter.range.clone()], &mut bytes);
            served.set_tensor(&parameter.name, DType::F32, &bytes).unwrap();
            let short = served
                .set_tensor(&parameter.name, DType::F32, &bytes[4..])
                .unwrap_err()
                .to_string();
            assert!(
                short.contains(&format!("it has {} elements", parameter.range.len())),
                "{short}"
            );
        }
        assert_eq!(served.values(), values);
        let unknown = served
            .set_tensor("lm_head.height", DType::F32, &[])
            .unwrap_err()
            .to_string();
        assert!(unknown.contains("no such tensor"), "{unknown}");
    }
}
