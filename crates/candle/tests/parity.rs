//! The composite path against the kernels' path, both on the CPU: whatever one of them computes wrongly, the other
//! does not. The models are the small random ones of `synapse-nn`'s fixtures.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::{Path, PathBuf};

use synapse_candle::{CandleDecoder, CandleTrainer, DType, Device, DeviceAdapter, DeviceCache, WeightStorage};
use synapse_checkpoint::{AdapterConfig, AdapterTensor, ModelFolder, write_adapter};
use synapse_kernels::random::Stream;
use synapse_nn::{
    Adapter, CausalLm, Decoder, LoadOptions, LogitsFor, LoraOptions, MicroBatch, Phase, Precision, Sequence,
    StepContext, TrainableDecoder, TrainableModel, WeightDtype,
};

const MODELS: [&str; 2] = ["tiny-qwen2", "tiny-llama"];
/// Families with something of their own; too narrow for NF4's blocks.
const FAMILIES: [&str; 4] = [
    "families/qwen3",
    "families/qwen3-bias",
    "families/smollm3",
    "families/mistral",
];
const STORAGES: [WeightStorage; 3] = [
    WeightStorage::None,
    WeightStorage::Nf4 { double_quant: false },
    WeightStorage::Nf4 { double_quant: true },
];
const MODULES: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

fn fixture(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../nn/tests/fixtures")
        .join(model)
}

fn open(model: &str) -> ModelFolder {
    ModelFolder::open(&fixture(model)).unwrap()
}

/// tiny-llama with Llama 3's frequency scaling, over contexts so short that all three of its bands occur.
fn scaled_llama() -> (tempfile::TempDir, ModelFolder) {
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(fixture("tiny-llama").join("config.json")).unwrap();
    let scaling = r#""rope_theta": 10000.0, "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64"#;
    let start = config.find(r#""rope_theta""#).unwrap();
    let end = start + config[start..].find('}').unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        format!("{}{scaling}{}", &config[..start], &config[end..]),
    )
    .unwrap();
    std::fs::copy(
        fixture("tiny-llama").join("model.safetensors"),
        folder.path().join("model.safetensors"),
    )
    .unwrap();
    let opened = ModelFolder::open(folder.path()).unwrap();
    let divisors = opened.config().rope_scaling.as_ref().unwrap().divisors(16, 10_000.0);
    assert!(
        divisors[0] == 1.0 && divisors[7] == 4.0 && divisors.iter().any(|&divisor| divisor > 1.0 && divisor < 4.0),
        "{divisors:?}"
    );
    (folder, opened)
}

/// How the kernels' path loads the same weights, in f32 arithmetic.
fn exact(quantization: WeightStorage) -> LoadOptions {
    match quantization {
        WeightStorage::None => LoadOptions::EXACT,
        WeightStorage::Nf4 { double_quant } => LoadOptions {
            dtype: WeightDtype::Nf4 { double_quant },
            precision: Precision::F32,
        },
    }
}

fn composite(folder: &ModelFolder, quantization: WeightStorage) -> CandleDecoder {
    CandleDecoder::load(folder, &Device::Cpu, DType::F32, quantization).unwrap()
}

fn lora(dropout: f32, targets: &[&str]) -> LoraOptions {
    LoraOptions {
        rank: 4,
        scale: 2.0,
        dropout,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
    }
}

fn trainer(folder: &ModelFolder, dtype: DType, quantization: WeightStorage, options: LoraOptions) -> CandleTrainer {
    CandleTrainer::lora(folder, &Device::Cpu, dtype, quantization, options).unwrap()
}

/// Three documents, one of a single token; some answers are trained, one document is not.
fn batch() -> MicroBatch {
    let mut batch = MicroBatch::default();
    let labels = |ids: &[u32], prompt: usize| {
        ids.iter()
            .enumerate()
            .map(|(i, &id)| if i < prompt { -100 } else { i64::from(id) })
            .collect::<Vec<_>>()
    };
    for (ids, prompt) in [
        (vec![3u32, 17, 99, 4, 4, 120, 63, 5, 88], 3),
        (vec![55], 0),
        (vec![9, 8], 2),
        (vec![7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 90, 2], 5),
    ] {
        batch.push(&ids, &labels(&ids, prompt), &[ids.len() as u32]);
    }
    batch
}

/// A and B both away from zero, so that every gradient is.
fn values(len: usize) -> Vec<f32> {
    let stream = Stream::new(&[11]);
    (0..len as u64).map(|i| 0.1 * stream.normal(i)).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn reference_logits(decoder: &Decoder, tokens: &[u32], adapter: Option<&Adapter>) -> Vec<f32> {
    let mut cache = decoder.new_cache();
    decoder
        .forward(&mut [Sequence {
            tokens,
            cache: &mut cache,
            phase: Phase::Prefill,
            adapter,
            logits: LogitsFor::All,
        }])
        .unwrap()
        .remove(0)
}

#[test]
fn logits_are_the_kernels() {
    let tokens: Vec<u32> = (0..40).map(|i| i * 37 % 128).collect();
    let (_kept, scaled) = scaled_llama();
    let families = FAMILIES.map(open);
    for folder in [&open("tiny-qwen2"), &open("tiny-llama"), &scaled]
        .into_iter()
        .chain(&families)
    {
        let storages = if folder.config().hidden_size < 64 {
            &STORAGES[..1]
        } else {
            &STORAGES
        };
        for &quantization in storages {
            let want = reference_logits(&Decoder::load(folder, &exact(quantization)).unwrap(), &tokens, None);
            let difference = largest_difference(&composite(folder, quantization).logits(&tokens, None).unwrap(), &want);
            assert!(
                difference < 1e-4,
                "{}, {quantization:?}: logits differ by {difference}",
                folder.path().display()
            );
        }
    }
}

#[test]
fn layout_and_initial_values_are_the_kernels() {
    for model in MODELS {
        for targets in [&MODULES[..], &["v_proj", "q_proj"], &["down_proj"]] {
            let folder = open(model);
            let want = TrainableDecoder::lora(&folder, &LoadOptions::EXACT, lora(0.0, targets)).unwrap();
            let have = trainer(&folder, DType::F32, WeightStorage::None, lora(0.0, targets));
            assert_eq!(have.layout(), want.layout());
            assert_eq!(have.parameters(), want.parameters());
            assert_eq!(have.initial(42), want.initial(42));
        }
    }
}

/// Losses and gradients of both paths, with dropout in the gradients where asked for.
fn compare(folder: &ModelFolder, quantization: WeightStorage, options: &LoraOptions) {
    let mut reference = TrainableDecoder::lora(folder, &exact(quantization), options.clone()).unwrap();
    let ours = trainer(folder, DType::F32, quantization, options.clone());
    let (parameters, batch) = (values(ours.parameters()), batch());
    let context = format!("{}, {quantization:?}, {options:?}", folder.path().display());
    for ((have, count), (want, expected)) in ours
        .losses(&parameters, &batch)
        .unwrap()
        .into_iter()
        .zip(reference.losses(&parameters, &batch).unwrap())
    {
        assert_eq!(count, expected);
        assert!(
            (have - want).abs() <= 1e-5 * want,
            "{context}: loss {have} instead of {want}"
        );
    }
    let pass = |recompute| StepContext {
        scale: 1.0 / batch.num_targets() as f32,
        key: [1, 2, 3],
        recompute,
    };
    // what is there already must stay
    let start = vec![0.5; parameters.len()];
    let mut want = vec![0.0; parameters.len()];
    let expected = reference
        .accumulate(&parameters, &mut want, &batch, &pass(true))
        .unwrap();
    for recompute in [true, false] {
        let mut have = start.clone();
        let sum = ours
            .accumulate(&parameters, &mut have, &batch, &pass(recompute))
            .unwrap();
        assert!(
            (sum - expected).abs() <= 1e-5 * expected,
            "{context}: loss {sum} instead of {expected}"
        );
        for parameter in ours.layout() {
            let have: Vec<f32> = have[parameter.range.clone()].iter().map(|value| value - 0.5).collect();
            let want = &want[parameter.range.clone()];
            let scale = want.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let difference = largest_difference(&have, want);
            assert!(scale > 1e-5, "{context}: {} has no gradient", parameter.name);
            // 1e-7: adding to 0.5 rounds
            assert!(
                difference < 1e-3 * scale + 1e-7,
                "{context}: {} differs by {difference} of {scale}",
                parameter.name
            );
        }
    }
}

#[test]
fn losses_and_gradients_are_the_kernels() {
    let (_kept, scaled) = scaled_llama();
    for quantization in STORAGES {
        for model in MODELS {
            compare(&open(model), quantization, &lora(0.0, &MODULES));
        }
    }
    for family in FAMILIES {
        compare(&open(family), WeightStorage::None, &lora(0.0, &MODULES));
    }
    compare(&scaled, WeightStorage::None, &lora(0.0, &MODULES));
    compare(
        &open("tiny-llama"),
        WeightStorage::None,
        &lora(0.0, &["q_proj", "down_proj"]),
    );
}

#[test]
fn dropout_masks_are_the_kernels() {
    for model in MODELS {
        compare(&open(model), WeightStorage::None, &lora(0.3, &MODULES));
        compare(
            &open(model),
            WeightStorage::Nf4 { double_quant: true },
            &lora(0.05, &MODULES),
        );
    }
}

#[test]
fn bf16_stays_near_f32() {
    let folder = open("tiny-qwen2");
    let quantization = WeightStorage::Nf4 { double_quant: true };
    let (wide, narrow) = (
        trainer(&folder, DType::F32, quantization, lora(0.3, &MODULES)),
        trainer(&folder, DType::BF16, quantization, lora(0.3, &MODULES)),
    );
    let (parameters, batch) = (values(wide.parameters()), batch());
    let run = |trainer: &CandleTrainer| {
        let mut gradients = vec![0.0; parameters.len()];
        let pass = StepContext {
            scale: 1.0 / batch.num_targets() as f32,
            key: [1, 2, 3],
            recompute: true,
        };
        (
            trainer.accumulate(&parameters, &mut gradients, &batch, &pass).unwrap(),
            gradients,
        )
    };
    let ((want, wanted), (have, had)) = (run(&wide), run(&narrow));
    assert!((have - want).abs() < 0.01 * want, "loss {have} instead of {want}");
    for parameter in wide.layout() {
        let (want, have) = (&wanted[parameter.range.clone()], &had[parameter.range.clone()]);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let cosine = dot(want, have) / (dot(want, want) * dot(have, have)).sqrt();
        assert!(
            cosine > 0.99,
            "{}: the gradient points elsewhere, cosine {cosine}",
            parameter.name
        );
    }
}

#[test]
fn an_adapter_gives_what_the_kernels_give_and_what_was_trained() {
    let folder = open("tiny-qwen2");
    let trainer = trainer(&folder, DType::F32, WeightStorage::None, lora(0.0, &MODULES));
    let (parameters, batch) = (values(trainer.parameters()), batch());
    let tensors: Vec<_> = trainer
        .layout()
        .chunks_exact(2)
        .map(|pair| AdapterTensor {
            module: pair[0].name.strip_suffix(".lora_A").unwrap(),
            rank: 4,
            in_features: pair[0].shape[1],
            out_features: pair[1].shape[0],
            a: &parameters[pair[0].range.clone()],
            b: &parameters[pair[1].range.clone()],
        })
        .collect();
    let written = tempfile::tempdir().unwrap();
    write_adapter(
        written.path(),
        &AdapterConfig::lora("tiny-qwen2", 4, 8.0, &lora(0.0, &MODULES).targets),
        &tensors,
    )
    .unwrap();
    let adapter = DeviceAdapter::load(written.path(), trainer.decoder()).unwrap();
    let reference = Decoder::load(&folder, &LoadOptions::EXACT).unwrap();
    let want = reference_logits(
        &reference,
        &batch.tokens[..9],
        Some(&Adapter::load(written.path(), folder.config()).unwrap()),
    );
    let have = trainer.decoder().logits(&batch.tokens[..9], Some(&adapter)).unwrap();
    assert!(largest_difference(&have, &want) < 1e-4);
    assert!(
        largest_difference(&trainer.decoder().logits(&batch.tokens[..9], None).unwrap(), &want) > 1e-2,
        "the adapter changes the output"
    );
    let trained = trainer.losses(&parameters, &batch).unwrap();
    for ((have, count), (want, expected)) in trainer
        .decoder()
        .document_losses(&batch, Some(&adapter))
        .unwrap()
        .into_iter()
        .zip(trained)
    {
        assert_eq!(count, expected);
        assert!((have - want).abs() <= 1e-5 * want, "loss {have} instead of {want}");
    }
}

#[test]
fn cached_steps_equal_one_pass_and_a_cache_can_be_cut_back() {
    let decoder = composite(&open("tiny-llama"), WeightStorage::None);
    let tokens: Vec<u32> = (0..24).map(|i| i * 29 % 128).collect();
    let vocab = decoder.config().vocab_size;
    let whole = decoder.logits(&tokens, None).unwrap();
    let row = |position: usize| &whole[position * vocab..(position + 1) * vocab];
    let mut cache = DeviceCache::default();
    for (step, chunk) in tokens.chunks(5).enumerate() {
        let last = (step * 5 + chunk.len()) - 1;
        assert!(
            largest_difference(&decoder.append(chunk, &mut cache, None).unwrap(), row(last)) < 1e-4,
            "chunk {step}"
        );
    }
    assert_eq!(cache.len(), 24);
    cache.truncate(7);
    assert!(decoder.append(&[500], &mut cache, None).is_err());
    assert_eq!(cache.len(), 7, "a refused token leaves the cache");
    for position in 7..12 {
        assert!(
            largest_difference(
                &decoder.append(&tokens[position..=position], &mut cache, None).unwrap(),
                row(position)
            ) < 1e-4,
            "position {position}"
        );
    }
}

#[test]
fn impossible_requests_are_refused_in_words() {
    let folder = open("tiny-qwen2");
    let trainer = trainer(&folder, DType::F32, WeightStorage::None, lora(0.0, &["q_proj"]));
    let (parameters, batch) = (trainer.initial(1), batch());
    let pass = StepContext {
        scale: 1.0,
        key: [0, 0, 0],
        recompute: true,
    };
    let refused = |batch: &MicroBatch| trainer.losses(&parameters, batch).unwrap_err().to_string();
    let mut wrong = batch.clone();
    wrong.tokens[0] = 128;
    assert_eq!(
        refused(&wrong),
        "token id 128 is outside the model's vocabulary of 128 tokens: tokenizer and model do not belong together"
    );
    let mut wrong = batch.clone();
    wrong.targets[0] = Some(4_000);
    assert_eq!(
        refused(&wrong),
        "token id 4000 is outside the model's vocabulary of 128 tokens: tokenizer and model do not belong together"
    );
    let mut wrong = batch.clone();
    wrong.lengths.pop();
    assert_eq!(
        refused(&wrong),
        "documents of the batch: expected 24 elements, found 12"
    );
    let mut long = MicroBatch::default();
    long.push(&[1; 65], &[1; 65], &[65]);
    assert_eq!(
        refused(&long),
        "65 positions exceed the model's limit of 64 (max_position_embeddings); shorten the text"
    );
    let error = trainer
        .accumulate(&parameters, &mut [0.0; 3], &batch, &pass)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("gradients: expected") && error.ends_with("found 3"),
        "{error}"
    );
    assert!(
        trainer
            .losses(&parameters[1..], &batch)
            .unwrap_err()
            .to_string()
            .starts_with("parameters: expected")
    );
    let unknown = CandleTrainer::lora(
        &folder,
        &Device::Cpu,
        DType::F32,
        WeightStorage::None,
        lora(0.0, &["x_proj"]),
    )
    .unwrap_err()
    .to_string();
    assert!(unknown.contains("x_proj") && unknown.contains("q_proj"), "{unknown}");
    assert!(
        CandleDecoder::load(&folder, &Device::Cpu, DType::F16, WeightStorage::None)
            .unwrap_err()
            .to_string()
            .contains("bf16")
    );
}

#[test]
fn a_batch_without_trained_positions_adds_nothing() {
    let trainer = trainer(
        &open("tiny-qwen2"),
        DType::F32,
        WeightStorage::None,
        lora(0.0, &["q_proj"]),
    );
    let mut batch = MicroBatch::default();
    batch.push(&[1, 2, 3], &[-100; 3], &[3]);
    for batch in [batch, MicroBatch::default()] {
        let mut gradients = vec![0.0; trainer.parameters()];
        let pass = StepContext {
            scale: 1.0,
            key: [0, 0, 0],
            recompute: true,
        };
        assert_eq!(
            trainer
                .accumulate(&trainer.initial(1), &mut gradients, &batch, &pass)
                .unwrap(),
            0.0
        );
        assert!(gradients.iter().all(|&gradient| gradient == 0.0));
    }
}
