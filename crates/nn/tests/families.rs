//! The families that differ from Llama and Qwen2 in a norm, a layer or a field: logits, losses and every weight's gradient
//! are transformers'. `fixtures/make_families.py` made the numbers.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::{Path, PathBuf};

use synapse_checkpoint::{ModelFolder, TensorFiles};
use synapse_nn::{
    CausalLm, Decoder, LoadOptions, LogitsFor, MicroBatch, Phase, Precision, Sequence, StepContext, TrainableDecoder,
    TrainableModel,
};

const FAMILIES: [&str; 4] = ["qwen3", "qwen3-bias", "smollm3", "mistral"];

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/families")
        .join(family)
}

fn expected(family: &str) -> TensorFiles {
    TensorFiles::open(vec![folder(family).join("expected.safetensors")]).unwrap()
}

fn ids(files: &TensorFiles) -> Vec<u32> {
    let mut bytes = Vec::new();
    files.read_bytes("ids", &mut bytes).unwrap();
    bytes
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_equal_transformers_in_one_pass_and_token_by_token() {
    for family in FAMILIES {
        let (model, files) = (ModelFolder::open(&folder(family)).unwrap(), expected(family));
        let (ids, want) = (ids(&files), files.read_f32("logits").unwrap());
        // bf16 has 8 bits; the logits are of order 3
        for (options, limit) in [(LoadOptions::EXACT, 1e-4), (LoadOptions::BF16, 0.25)] {
            let decoder = Decoder::load(&model, &options).unwrap();
            let pass = |tokens: &[u32], cache: &mut synapse_nn::KvCache, phase| {
                let sequence = Sequence {
                    tokens,
                    cache,
                    phase,
                    adapter: None,
                    logits: LogitsFor::All,
                };
                decoder.forward(&mut [sequence]).unwrap().remove(0)
            };
            let whole = pass(&ids, &mut decoder.new_cache(), Phase::Prefill);
            let mut cache = decoder.new_cache();
            let steps: Vec<f32> = ids
                .iter()
                .flat_map(|&id| pass(&[id], &mut cache, Phase::Decode))
                .collect();
            for found in [whole, steps] {
                let difference = largest_difference(&found, &want);
                assert!(
                    difference < limit,
                    "{family}, {options:?}: logits differ by {difference}"
                );
            }
        }
    }
}

#[test]
fn every_weights_gradient_equals_transformers() {
    for family in FAMILIES {
        let (model, files) = (ModelFolder::open(&folder(family)).unwrap(), expected(family));
        let mut decoder = TrainableDecoder::full(model.config(), Precision::F32).unwrap();
        let weights: Vec<f32> = decoder
            .layout()
            .iter()
            .flat_map(|parameter| model.read_f32(&parameter.name).unwrap())
            .collect();
        let ids = ids(&files);
        let labels: Vec<i64> = [-100]
            .into_iter()
            .chain(ids[1..].iter().map(|&id| i64::from(id)))
            .collect();
        let mut batch = MicroBatch::default();
        batch.push(&ids, &labels, &[ids.len() as u32]);
        for recompute in [false, true] {
            let mut gradients = vec![0.0; weights.len()];
            let context = StepContext {
                scale: 1.0 / batch.num_targets() as f32,
                key: [1, 2, 3],
                recompute,
            };
            let sum = decoder.accumulate(&weights, &mut gradients, &batch, &context).unwrap();
            let (loss, want) = (sum / batch.num_targets() as f64, files.read_f32("loss").unwrap()[0]);
            assert!(
                (loss - f64::from(want)).abs() < 1e-5,
                "{family}: loss {loss} instead of {want}"
            );
            for parameter in decoder.layout() {
                let want = files.read_f32(&format!("gradient.{}", parameter.name)).unwrap();
                let scale = want.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                let difference = largest_difference(&gradients[parameter.range.clone()], &want);
                // sums of f32 in another order
                assert!(
                    difference <= 1e-4 * scale,
                    "{family}, {}: gradients differ by {difference} of {scale}",
                    parameter.name
                );
            }
        }
    }
}
