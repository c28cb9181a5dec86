//! The model against a plain PyTorch reference that goes token by token (`fixtures/make_fixtures.py`).

use std::path::{Path, PathBuf};

use synapse_checkpoint::{ModelFolder, TensorFiles};
use synapse_nn::models::synapse::{SynapseCausalLm, SynapseModel};
use synapse_nn::{CausalLm, LogitsFor, MicroBatch, Phase, Precision, Sequence, StepContext};

/// What the reference computed for one model.
struct Reference {
    folder: ModelFolder,
    expected: TensorFiles,
    gradients: TensorFiles,
}

impl Reference {
    fn open(name: &str) -> Self {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/synapse/fixtures")
            .join(name);
        let file = |name: &str| TensorFiles::open(vec![path.join(name)]).unwrap();
        Self {
            folder: ModelFolder::open(&path).unwrap(),
            expected: file("expected.safetensors"),
            gradients: file("gradients.safetensors"),
        }
    }

    fn integers(&self, name: &str) -> Vec<i32> {
        let mut bytes = Vec::new();
        self.expected.read_bytes(name, &mut bytes).unwrap();
        bytes
            .chunks_exact(4)
            .map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.expected.read_f32(name).unwrap()
    }

    /// The documents, end to end.
    fn batch(&self) -> MicroBatch {
        let ids: Vec<u32> = self.integers("ids").into_iter().map(|id| id as u32).collect();
        let labels: Vec<i64> = self.integers("labels").into_iter().map(i64::from).collect();
        let lengths: Vec<u32> = self
            .integers("lengths")
            .into_iter()
            .map(|length| length as u32)
            .collect();
        let mut batch = MicroBatch::default();
        batch.push(&ids, &labels, &lengths);
        batch
    }
}

fn references() -> [Reference; 2] {
    ["dispatch", "sequential"].map(Reference::open)
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance,
            "{what} {i}: {found}, the reference has {expected}"
        );
    }
}

#[test]
fn logits_and_trace_are_the_references() {
    for reference in references() {
        let served = SynapseCausalLm::load(&reference.folder, Precision::F32).unwrap();
        let (batch, expected) = (reference.batch(), reference.floats("logits"));
        let (fired, writes, reads) = (
            reference.floats("fired"),
            reference.floats("writes"),
            reference.floats("reads"),
        );
        let (total, vocab) = (batch.tokens.len(), served.vocab_size());
        let mut start = 0;
        for &length in &batch.lengths {
            let tokens = &batch.tokens[start..start + length];
            let mut cache = served.new_cache();
            let sequence = Sequence {
                tokens,
                cache: &mut cache,
                phase: Phase::Prefill,
                adapter: None,
                logits: LogitsFor::All,
            };
            let logits = served.forward(&mut [sequence]).unwrap().remove(0);
            // the reference in f32 is as far as 4e-5 from itself in f64
            assert_close(
                &logits,
                &expected[start * vocab..(start + length) * vocab],
                2e-4,
                "logit",
            );
            let trace = served.trace(tokens, None).unwrap().unwrap();
            let choices = trace.modules.len();
            for (index, layer) in trace.layers.iter().enumerate() {
                let row = index * total + start;
                let of = |values: &[f32]| values[row..row + length].to_vec();
                let weights = &fired[row * choices..(row + length) * choices];
                assert_close(&layer.weights.concat(), weights, 2e-4, "weight of a module");
                assert_close(&layer.writes, &of(&writes), 2e-4, "write strength");
                assert_close(&layer.reads, &of(&reads), 1e-3, "read");
            }
            start += length;
        }
    }
}

#[test]
fn losses_loads_and_gradients_are_the_references() {
    for reference in references() {
        let model = SynapseModel::new(reference.folder.config(), Precision::F32).unwrap();
        let values = model.read(&reference.folder).unwrap();
        let batch = reference.batch();
        assert_eq!(batch.num_targets(), reference.integers("trained")[0] as usize);
        let losses: Vec<f32> = model
            .losses(&values, &batch)
            .unwrap()
            .iter()
            .map(|(sum, _)| *sum as f32)
            .collect();
        assert_close(&losses, &reference.floats("losses"), 2e-3, "loss of a document");

        let mut gradients = vec![0.0; values.len()];
        let pass = StepContext {
            scale: 1.0 / batch.num_targets() as f32,
            key: [0; 3],
            recompute: false,
        };
        let passed = model.accumulate(&values, &mut gradients, &batch, &pass).unwrap();
        let of = |of: &dyn Fn(&synapse_nn::LayerRouterStatistics) -> f64| -> Vec<f32> {
            passed.layers.iter().map(|layer| of(layer) as f32).collect()
        };
        assert_close(
            &of(&|layer| layer.balance),
            &reference.floats("balance"),
            1e-4,
            "balance",
        );
        assert_close(&of(&|layer| layer.z), &reference.floats("z"), 1e-4, "z-loss");
        let counts: Vec<i32> = passed
            .layers
            .iter()
            .flat_map(|layer| &layer.counts)
            .map(|&count| count as i32)
            .collect();
        assert_eq!(counts, reference.integers("counts"));
        for parameter in model.layout() {
            let expected = reference.gradients.read_f32(&parameter.name).unwrap();
            let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!(largest > 0.0, "{} is not reached", parameter.name);
            assert_close(
                &gradients[parameter.range.clone()],
                &expected,
                2e-4 * largest,
                &parameter.name,
            );
        }
    }
}
