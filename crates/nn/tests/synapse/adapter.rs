//! LoRA over a Synapse model: gradients, and what is trained is what is served.

use std::path::Path;

use synapse_checkpoint::{AdapterConfig, AdapterTensor, ModelFolder, write_adapter};
use synapse_kernels::random::Stream;
use synapse_nn::models::synapse::{SynapseCausalLm, SynapseLora, SynapseModel};
use synapse_nn::{Adapter, LanguageModel, LoraOptions, MicroBatch, Precision, StepContext};

const TARGETS: [&str; 9] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "in_proj",
    "x_proj",
];

fn folder(name: &str) -> ModelFolder {
    ModelFolder::open(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/synapse/fixtures")
            .join(name),
    )
    .unwrap()
}

fn options(dropout: f32, targets: &[&str]) -> LoraOptions {
    LoraOptions {
        rank: 3,
        scale: 2.0,
        dropout,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
    }
}

fn batch() -> MicroBatch {
    let stream = Stream::new(&[8]);
    let mut batch = MicroBatch::default();
    for (document, length) in [60usize, 1, 90].into_iter().enumerate() {
        let ids: Vec<u32> = (0..length)
            .map(|i| stream.bits((document * 1000 + i) as u64) % 33)
            .collect();
        let labels: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        batch.push(&ids, &labels, &[length as u32]);
    }
    batch
}

/// Values of an adapter that is not at its beginning: B is not zero.
fn values(adapter: &SynapseLora) -> Vec<f32> {
    let stream = Stream::new(&[5]);
    let mut values = adapter.initial(1);
    for (i, value) in values.iter_mut().enumerate() {
        *value += 0.05 * stream.normal(i as u64);
    }
    values
}

#[test]
fn gradients_are_differences_also_under_dropout() {
    for name in ["dispatch", "sequential"] {
        for dropout in [0.0, 0.2] {
            let mut adapter = SynapseLora::new(&folder(name), Precision::F32, options(dropout, &TARGETS)).unwrap();
            let (batch, values) = (batch(), values(&adapter));
            let pass = StepContext {
                scale: 0.01,
                key: [1, 2, 3],
                recompute: true,
            };
            let mut gradients = vec![0.0; values.len()];
            let modules = adapter.config().synapse.clone().unwrap();
            let objective = |adapter: &mut SynapseLora, values: &[f32], gradients: &mut [f32]| {
                let passed = adapter.accumulate(values, gradients, &batch, &pass).unwrap();
                let share = 0.01 * batch.num_targets() as f64 / passed.layers.len() as f64;
                let auxiliary: f64 = passed
                    .layers
                    .iter()
                    .map(|layer| modules.balance_loss * layer.balance + modules.router_z_loss * layer.z)
                    .sum();
                let counts: Vec<_> = passed.layers.iter().flat_map(|layer| layer.counts.clone()).collect();
                (0.01 * passed.loss + share * auxiliary, counts)
            };
            let (_, counts) = objective(&mut adapter, &values, &mut gradients);
            let layout = adapter.layout().to_vec();
            let mut compared = 0;
            for parameter in &layout {
                let gradient = &gradients[parameter.range.clone()];
                let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                assert!(norm > 0.0, "{} has no gradient", parameter.name);
                let step = 1e-3 / (1.0 + norm);
                let mut moved = |by: f64| {
                    let mut moved = values.clone();
                    for (value, g) in moved[parameter.range.clone()].iter_mut().zip(gradient) {
                        *value += (by * f64::from(*g) / norm) as f32;
                    }
                    let mut unused = vec![0.0; moved.len()];
                    objective(&mut adapter, &moved, &mut unused)
                };
                let ((above, above_counts), (below, below_counts)) = (moved(step), moved(-step));
                let slope = (above - below) / (2.0 * step);
                if above_counts != counts || below_counts != counts || (slope - norm).abs() > 0.5 * norm + 0.05 {
                    // a token went to another module in between: there the function jumps
                    continue;
                }
                compared += 1;
                assert!(
                    (slope - norm).abs() < 0.03 * (norm + 0.05),
                    "{name}, {}: {slope} by differences, {norm} by the gradient",
                    parameter.name
                );
            }
            assert!(
                compared * 10 > layout.len() * 9,
                "only {compared} of {} could be compared",
                layout.len()
            );
        }
    }
}

#[test]
fn an_adapter_that_was_written_serves_what_was_trained() {
    for name in ["dispatch", "sequential"] {
        let base = folder(name);
        let adapter = SynapseLora::new(&base, Precision::F32, options(0.0, &TARGETS)).unwrap();
        let (batch, values) = (batch(), values(&adapter));
        let trained = adapter.losses(&values, &batch).unwrap();

        let out = tempfile::tempdir().unwrap();
        let targets = TARGETS.map(str::to_owned).to_vec();
        let config = AdapterConfig::lora("base", 3, 6.0, &targets);
        let tensors: Vec<AdapterTensor<'_>> = adapter
            .layout()
            .chunks_exact(2)
            .map(|pair| AdapterTensor {
                module: pair[0].name.trim_end_matches(".lora_A"),
                rank: 3,
                in_features: pair[0].shape[1],
                out_features: pair[1].shape[0],
                a: &values[pair[0].range.clone()],
                b: &values[pair[1].range.clone()],
            })
            .collect();
        write_adapter(out.path(), &config, &tensors).unwrap();
        let read = Adapter::load(out.path(), base.config()).unwrap();
        let served = SynapseCausalLm::load(&base, Precision::F32).unwrap();
        assert_eq!(served.document_losses(&batch, Some(&read)).unwrap(), trained);

        // and it is the base plus scale · B · A
        let model = SynapseModel::new(base.config(), Precision::F32).unwrap();
        let mut whole = model.read(&base).unwrap();
        let plain = model.losses(&whole, &batch).unwrap();
        for pair in adapter.layout().chunks_exact(2) {
            let weight = format!("{}.weight", pair[0].name.trim_end_matches(".lora_A"));
            let place = model
                .layout()
                .iter()
                .find(|parameter| parameter.name == weight)
                .unwrap();
            let (a, b) = (&values[pair[0].range.clone()], &values[pair[1].range.clone()]);
            let columns = place.shape[1];
            for (index, value) in whole[place.range.clone()].iter_mut().enumerate() {
                let (row, column) = (index / columns, index % columns);
                *value += 2.0 * (0..3).map(|r| b[row * 3 + r] * a[r * columns + column]).sum::<f32>();
            }
        }
        for ((merged, _), ((trained, _), (plain, _))) in model
            .losses(&whole, &batch)
            .unwrap()
            .iter()
            .zip(trained.iter().zip(&plain))
        {
            assert!(
                (merged - trained).abs() < 2e-3 * (1.0 + trained),
                "{merged} and {trained}"
            );
            assert!(
                *plain == 0.0 || (plain - trained).abs() > 1e-3,
                "the adapter changes nothing"
            );
        }
    }
}

#[test]
fn a_target_that_no_module_has_is_refused_by_name() {
    let error = SynapseLora::new(&folder("dispatch"), Precision::F32, options(0.0, &["c_proj"])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`c_proj`") && text.contains("in_proj"), "{text}");
}
