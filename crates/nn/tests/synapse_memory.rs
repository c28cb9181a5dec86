//! The forecast of a training's memory against what an allocator counts. One test, for it counts all of the process.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::Path;

use peak_alloc::PeakAlloc;
use synapse_checkpoint::{ModelConfig, RoutingMode};
use synapse_kernels::random::Stream;
use synapse_nn::models::synapse::{SynapseLora, SynapseModel};
use synapse_nn::{LoraOptions, MicroBatch, Precision, StepContext, TrainableScope, WeightDtype, Workload};

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// The shape of the bundled model, which begins with even shares of its modules, as the forecast takes them to be.
fn nano(routing: RoutingMode) -> ModelConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/nano/fresh-synapse");
    let mut config = ModelConfig::read(&folder).unwrap();
    config.synapse.as_mut().unwrap().routing = routing;
    config
}

fn batch(documents: usize, length: usize) -> MicroBatch {
    let stream = Stream::new(&[6]);
    let mut batch = MicroBatch::default();
    for document in 0..documents {
        let id = |i: usize| stream.bits((document * length + i) as u64) % 768;
        let ids: Vec<u32> = (0..length).map(id).collect();
        let labels: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        batch.push(&ids, &labels, &[length as u32]);
    }
    batch
}

/// Bytes that `work` has at once beyond those that were there before, with what it gives.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNTED.current_usage();
    COUNTED.reset_peak_usage();
    let given = work();
    (COUNTED.peak_usage() - before, given)
}

/// Within 15 % of what was counted, above or below.
fn assert_held(what: &str, forecast: u64, counted: usize) {
    let ratio = forecast as f64 / counted as f64;
    assert!(
        (1.0 / 1.15..=1.15).contains(&ratio),
        "{what}: {forecast} bytes forecast, {counted} counted, ratio {ratio:.3}"
    );
}

#[test]
fn the_forecast_is_what_is_allocated() {
    let targets = ["q_proj", "up_proj", "down_proj"].map(str::to_owned);
    let options = LoraOptions {
        rank: 8,
        scale: 2.0,
        dropout: 0.1,
        targets: targets.to_vec(),
    };
    for routing in [RoutingMode::Dispatch, RoutingMode::Sequential] {
        let config = nano(routing);
        for (documents, length, recompute) in [(16, 64, false), (16, 64, true), (1, 1024, false), (1, 1024, true)] {
            let what = format!("{routing:?}, {documents} documents of {length}, recompute {recompute}");
            let batch = batch(documents, length);
            let pass = StepContext {
                scale: 1e-3,
                key: [0; 3],
                recompute,
            };
            let workload = |scope| Workload {
                config: &config,
                scope,
                precision: Precision::F32,
                tokens: documents * length,
                longest: length,
                recompute,
            };
            let model = SynapseModel::new(&config, Precision::F32).unwrap();
            let values = model.initial(1);
            let mut gradients = vec![0.0; values.len()];
            let (counted, _) = peak(|| model.accumulate(&values, &mut gradients, &batch, &pass).unwrap());
            let forecast = workload(TrainableScope::Full).memory();
            assert_eq!(forecast.trainable, 16 * values.len() as u64);
            let passing = forecast.activations + forecast.workspace + forecast.logits;
            assert_held(&what, passing, counted);
            drop((model, values, gradients));

            // an adapter's frozen weights and all else of it too
            let (counted, _) = peak(|| {
                let mut adapter = SynapseLora::random(&config, Precision::F32, options.clone()).unwrap();
                let values = adapter.initial(1);
                let (mut gradients, moments) = (vec![0.0; values.len()], [values.clone(), values.clone()]);
                adapter.accumulate(&values, &mut gradients, &batch, &pass).unwrap();
                moments
            });
            let forecast = workload(TrainableScope::Lora {
                rank: options.rank,
                targets: &targets,
                weights: WeightDtype::F32,
            })
            .memory();
            assert_held(&format!("LoRA, {what}"), forecast.total(), counted);
        }
    }
}
