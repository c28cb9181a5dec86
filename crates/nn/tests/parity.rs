//! Parity with transformers, PEFT and bitsandbytes. `fixtures/make_parity.py` made the numbers.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::{Path, PathBuf};

use synapse_checkpoint::{AdapterConfig, AdapterTensor, ModelFolder, TensorFiles};
use synapse_kernels::{
    Nf4Matrix,
    adamw::{AdamW, State, sum_of_squares},
    nf4,
    random::MersenneTwister,
};
use synapse_nn::{
    Adapter, CausalLm, Decoder, LoadOptions, LogitsFor, LoraOptions, MicroBatch, Phase, Precision, Sequence,
    StepContext, TrainableDecoder, TrainableModel, WeightDtype,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn tensors(name: &str) -> TensorFiles {
    TensorFiles::open(vec![fixtures().join(name)]).unwrap()
}

fn ids(files: &TensorFiles) -> Vec<u32> {
    let mut bytes = Vec::new();
    files.read_bytes("ids", &mut bytes).unwrap();
    bytes
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn logits(decoder: &Decoder, tokens: &[u32], adapter: Option<&Adapter>) -> Vec<f32> {
    let mut cache = decoder.new_cache();
    let sequence = Sequence {
        tokens,
        cache: &mut cache,
        phase: Phase::Prefill,
        adapter,
        logits: LogitsFor::All,
    };
    decoder.forward(&mut [sequence]).unwrap().remove(0)
}

#[test]
fn logits_equal_transformers() {
    for model in ["tiny-qwen2", "tiny-llama"] {
        let folder = ModelFolder::open(&fixtures().join(model)).unwrap();
        let expected = tensors(&format!("{model}/expected.safetensors"));
        let (ids, want) = (ids(&expected), expected.read_f32("logits").unwrap());
        let exact = Decoder::load(&folder, &LoadOptions::EXACT).unwrap();
        let difference = largest_difference(&logits(&exact, &ids, None), &want);
        assert!(difference < 1e-4, "{model}: logits differ by {difference}");
        let halves = Decoder::load(&folder, &LoadOptions::BF16).unwrap();
        let difference = largest_difference(&logits(&halves, &ids, None), &want);
        // bf16 has 8 bits; the logits are of order 3
        assert!(difference < 0.25, "{model} in bf16: logits differ by {difference}");
    }
}

#[test]
fn cached_steps_equal_one_pass_and_batches_equal_single_runs() {
    let folder = ModelFolder::open(&fixtures().join("tiny-llama")).unwrap();
    let decoder = Decoder::load(&folder, &LoadOptions::EXACT).unwrap();
    let ids = ids(&tensors("tiny-llama/expected.safetensors"));
    let whole = logits(&decoder, &ids, None);
    let vocab = decoder.vocab_size();
    let (mut one, mut two) = (decoder.new_cache(), decoder.new_cache());
    for (step, &token) in ids.iter().enumerate() {
        let other = [5u32, 6, 7];
        let mut batch = [
            Sequence {
                tokens: &other,
                cache: &mut two,
                phase: Phase::Prefill,
                adapter: None,
                logits: LogitsFor::None,
            },
            Sequence {
                tokens: &[token],
                cache: &mut one,
                phase: Phase::Prefill,
                adapter: None,
                logits: LogitsFor::Last,
            },
        ];
        let out = decoder.forward(&mut batch).unwrap();
        assert!(out[0].is_empty());
        let difference = largest_difference(&out[1], &whole[step * vocab..(step + 1) * vocab]);
        assert!(difference < 1e-4, "step {step}: {difference}");
    }
    assert_eq!(one.len(), ids.len());
}

#[test]
fn nf4_equals_bitsandbytes() {
    let files = tensors("nf4.safetensors");
    let weight = files.read_f32("weight").unwrap();
    let plain = Nf4Matrix::quantize(&weight, 200, 128, false);
    let mut codes = Vec::new();
    files.read_bytes("codes", &mut codes).unwrap();
    assert!(plain.codes() == codes, "codes differ");
    assert!(plain.absmax() == files.read_f32("absmax").unwrap(), "absmax differ");
    assert!(
        plain.dequantize() == files.read_f32("plain").unwrap(),
        "dequantized weights are not bit-equal"
    );
    let map = files.read_f32("map").unwrap();
    let different = nf4::dynamic_map()
        .iter()
        .zip(&map)
        .filter(|(ours, theirs)| ours != theirs)
        .count();
    assert_eq!(different, 0, "entries of the dynamic map that are not bit-equal");
    let nested = Nf4Matrix::quantize(&weight, 200, 128, true);
    assert!(nested.codes() == codes, "nesting changes the codes");
    // bitsandbytes' CPU code looks nested codes up in 65,536 bins; ours are the nearest, as on CUDA
    for (ours, theirs) in nested.absmax().iter().zip(files.read_f32("nested_absmax").unwrap()) {
        assert!((ours - theirs).abs() <= 0.01 * theirs, "absmax {ours} and {theirs}");
    }
    for ((ours, theirs), before) in nested
        .dequantize()
        .iter()
        .zip(files.read_f32("nested").unwrap())
        .zip(plain.dequantize())
    {
        assert!(
            (ours - theirs).abs() <= 0.01 * before.abs().max(theirs.abs()) + 1e-7,
            "weight {ours} and {theirs}"
        );
    }
}

fn trainable() -> TrainableDecoder {
    let folder = ModelFolder::open(&fixtures().join("tiny-qwen2")).unwrap();
    let load = LoadOptions {
        dtype: WeightDtype::Nf4 { double_quant: false },
        precision: Precision::F32,
    };
    TrainableDecoder::lora(&folder, &load, lora_options(0.0)).unwrap()
}

fn lora_options(dropout: f32) -> LoraOptions {
    let targets = [
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
    .map(str::to_owned)
    .to_vec();
    LoraOptions {
        rank: 4,
        scale: 2.0,
        dropout,
        targets,
    }
}

fn start(model: &TrainableDecoder) -> Vec<f32> {
    let files = tensors("lora/start.safetensors");
    model
        .layout()
        .iter()
        .flat_map(|parameter| files.read_f32(&parameter.name).unwrap())
        .collect()
}

fn batch() -> MicroBatch {
    let mut batch = MicroBatch::default();
    for (ids, prompt) in [
        (vec![3u32, 17, 99, 4, 4, 120, 63, 5, 88], 3),
        (vec![7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 90, 2], 5),
    ] {
        let labels: Vec<i64> = ids
            .iter()
            .enumerate()
            .map(|(i, &id)| if i < prompt { -100 } else { i64::from(id) })
            .collect();
        batch.push(&ids, &labels, &[ids.len() as u32]);
    }
    batch
}

fn pass(batch: &MicroBatch, recompute: bool) -> StepContext {
    StepContext {
        scale: 1.0 / batch.num_targets() as f32,
        key: [1, 2, 3],
        recompute,
    }
}

#[test]
fn initial_values_and_order_are_torchs() {
    let model = trainable();
    let files = tensors("lora/initial.safetensors");
    let values = model.initial(42);
    for parameter in model
        .layout()
        .iter()
        .filter(|parameter| parameter.name.ends_with("lora_A"))
    {
        let difference = largest_difference(
            &values[parameter.range.clone()],
            &files.read_f32(&parameter.name).unwrap(),
        );
        assert!(difference <= 1.5e-8, "{}: {difference}", parameter.name); // one unit in the last place of 0.125
    }
    let mut bytes = Vec::new();
    tensors("lora/steps.safetensors")
        .read_bytes("permutation", &mut bytes)
        .unwrap();
    let torch: Vec<usize> = bytes
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()) as usize)
        .collect();
    assert_eq!(MersenneTwister::new(42).permutation(50), torch);
}

#[test]
fn lora_gradients_equal_pefts() {
    let mut model = trainable();
    let (parameters, batch) = (start(&model), batch());
    let files = tensors("lora/gradients.safetensors");
    for recompute in [false, true] {
        let mut gradients = vec![0.0; parameters.len()];
        let sum = model
            .accumulate(&parameters, &mut gradients, &batch, &pass(&batch, recompute))
            .unwrap();
        let loss = sum / batch.num_targets() as f64;
        let expected = f64::from(files.read_f32("loss").unwrap()[0]);
        assert!(
            (loss - expected).abs() < 1e-5 * expected,
            "loss {loss} instead of {expected}"
        );
        for parameter in model.layout() {
            let want = files.read_f32(&parameter.name).unwrap();
            let scale = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            let difference = largest_difference(&gradients[parameter.range.clone()], &want);
            assert!(
                difference < 1e-3 * scale,
                "{}: gradients differ by {difference} of {scale}",
                parameter.name
            );
        }
    }
}

#[test]
fn ten_steps_follow_peft() {
    let mut model = trainable();
    let (mut parameters, batch) = (start(&model), batch());
    let (mut first, mut second) = (vec![0.0; parameters.len()], vec![0.0; parameters.len()]);
    let files = tensors("lora/steps.safetensors");
    let (losses, norms) = (files.read_f32("losses").unwrap(), files.read_f32("norms").unwrap());
    for step in 0..10 {
        let mut gradients = vec![0.0; parameters.len()];
        let sum = model
            .accumulate(&parameters, &mut gradients, &batch, &pass(&batch, true))
            .unwrap();
        let (loss, want) = (sum / batch.num_targets() as f64, f64::from(losses[step]));
        assert!(
            (loss - want).abs() < 1e-3 * want,
            "step {step}: loss {loss} instead of {want}"
        );
        let norm = sum_of_squares(&gradients).sqrt();
        assert!(
            (norm - f64::from(norms[step])).abs() < 1e-3 * norm,
            "step {step}: norm {norm} instead of {}",
            norms[step]
        );
        let options = AdamW {
            learning_rate: 2e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            step: step as u64 + 1,
            gradient_scale: (1.0 / (norm + 1e-6)).min(1.0) as f32,
        };
        options.update(State {
            parameters: &mut parameters,
            first: &mut first,
            second: &mut second,
            gradients: &gradients,
        });
    }
}

#[test]
fn dropout_with_and_without_recompute_is_the_same_to_the_bit() {
    let folder = ModelFolder::open(&fixtures().join("tiny-qwen2")).unwrap();
    let load = LoadOptions {
        dtype: WeightDtype::Nf4 { double_quant: true },
        precision: Precision::Bf16,
    };
    let mut model = TrainableDecoder::lora(&folder, &load, lora_options(0.3)).unwrap();
    let (parameters, batch) = (start(&model), batch());
    let mut run = |recompute| {
        let mut gradients = vec![0.0; parameters.len()];
        let sum = model
            .accumulate(&parameters, &mut gradients, &batch, &pass(&batch, recompute))
            .unwrap();
        (sum, gradients)
    };
    assert!(run(true) == run(false), "recompute changes the gradients");
}

#[test]
fn full_gradients_equal_finite_differences() {
    let folder = ModelFolder::open(&fixtures().join("tiny-qwen2")).unwrap();
    let mut model = TrainableDecoder::full(folder.config(), Precision::F32).unwrap();
    let (mut parameters, batch) = (model.read_full(&folder).unwrap(), batch());
    let mut gradients = vec![0.0; parameters.len()];
    model
        .accumulate(&parameters, &mut gradients, &batch, &pass(&batch, false))
        .unwrap();
    let layout = model.layout().to_vec();
    for parameter in layout {
        let tensor = &gradients[parameter.range.clone()];
        assert!(tensor.iter().any(|&g| g != 0.0), "{} gets no gradient", parameter.name);
        // along the tensor's own gradient the loss must change by the gradient's square
        let square: f64 = tensor.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
        let step = 2e-3 / square.sqrt();
        let mut at = |sign: f64| {
            let before = parameters[parameter.range.clone()].to_vec();
            for (value, gradient) in parameters[parameter.range.clone()]
                .iter_mut()
                .zip(&gradients[parameter.range.clone()])
            {
                *value += (sign * step * f64::from(*gradient)) as f32;
            }
            let sum: f64 = model
                .losses(&parameters, &batch)
                .unwrap()
                .iter()
                .map(|document| document.0)
                .sum();
            parameters[parameter.range.clone()].copy_from_slice(&before);
            sum / batch.num_targets() as f64
        };
        let slope = (at(1.0) - at(-1.0)) / (2.0 * step);
        assert!(
            (slope - square).abs() < 0.02 * square + 1e-6,
            "{}: slope {slope}, squared gradient {square}",
            parameter.name
        );
    }
}

#[test]
fn a_saved_adapter_infers_what_was_trained() {
    let mut model = trainable();
    let (parameters, batch) = (start(&model), batch());
    let folder = tempfile::tempdir().unwrap();
    let layout = model.layout().to_vec();
    let tensors: Vec<_> = layout
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
    let config = AdapterConfig::lora("tiny-qwen2", 4, 8.0, &lora_options(0.0).targets);
    synapse_checkpoint::write_adapter(folder.path(), &config, &tensors).unwrap();
    let base = ModelFolder::open(&fixtures().join("tiny-qwen2")).unwrap();
    let load = LoadOptions {
        dtype: WeightDtype::Nf4 { double_quant: false },
        precision: Precision::F32,
    };
    let decoder = Decoder::load(&base, &load).unwrap();
    let adapter = Adapter::load(folder.path(), base.config()).unwrap();
    let rows = logits(&decoder, &batch.tokens[..9], Some(&adapter));
    let vocab = decoder.vocab_size();
    let mut sum = 0.0;
    for (position, target) in batch.targets[..9].iter().enumerate() {
        if let Some(target) = target {
            let row = &rows[position * vocab..(position + 1) * vocab];
            sum += f64::from(synapse_kernels::cross_entropy::log_sum_exp(row) - row[*target as usize]);
        }
    }
    let trained = model.losses(&parameters, &batch).unwrap()[0].0;
    assert!((sum - trained).abs() < 1e-4, "{sum} and {trained}");
    assert_ne!(
        logits(&decoder, &batch.tokens[..9], None),
        rows,
        "the adapter changes the output"
    );
}

#[test]
fn a_packed_row_gives_every_document_what_it_gets_alone() {
    let mut model = trainable();
    let parameters = start(&model);
    let documents: [&[u32]; 3] = [
        &[3, 17, 99, 4, 4, 120, 63],
        &[7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 90],
        &[5, 88],
    ];
    let lengths = documents.map(|document| document.len() as u32);
    // Every token is trained; a document's first label is never predicted.
    let row = |documents: &[&[u32]]| {
        let mut batch = MicroBatch::default();
        let ids = documents.concat();
        let labels: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let lengths: Vec<u32> = documents.iter().map(|document| document.len() as u32).collect();
        batch.push(&ids, &labels, &lengths);
        batch
    };
    let packed = row(&documents);
    assert_eq!(packed.lengths, lengths.map(|length| length as usize));

    // One position at a time: the log-probability of its label, which is its logit less what all logits share.
    let mut start_of = 0;
    for (index, document) in documents.iter().enumerate() {
        let alone = row(&[document]);
        for position in 0..document.len() - 1 {
            let only = |batch: &MicroBatch, at: usize| {
                let mut one = batch.clone();
                let keep = |(place, target): (usize, &Option<u32>)| target.filter(|_| place == at);
                one.targets = batch.targets.iter().enumerate().map(keep).collect();
                one
            };
            let within = model.losses(&parameters, &only(&packed, start_of + position)).unwrap()[index];
            let by_itself = model.losses(&parameters, &only(&alone, position)).unwrap()[0];
            assert_eq!((within.1, by_itself.1), (1, 1));
            assert!(
                (within.0 - by_itself.0).abs() < 1e-5 * by_itself.0.abs(),
                "document {index}, position {position}: {} packed and {} alone",
                within.0,
                by_itself.0
            );
        }
        start_of += document.len();
    }

    // What stands before a document does not reach it, to the bit.
    let other: Vec<u32> = documents[0].iter().rev().copied().collect();
    let before = model.losses(&parameters, &packed).unwrap();
    let after = model
        .losses(&parameters, &row(&[&other, documents[1], documents[2]]))
        .unwrap();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);

    // Gradients of the row are the sum of the documents'.
    let pass = |batch: &MicroBatch| StepContext {
        scale: 0.1,
        ..pass(batch, false)
    };
    let (mut together, mut summed) = (vec![0.0; parameters.len()], vec![0.0; parameters.len()]);
    model
        .accumulate(&parameters, &mut together, &packed, &pass(&packed))
        .unwrap();
    for document in documents {
        let alone = row(&[document]);
        model
            .accumulate(&parameters, &mut summed, &alone, &pass(&alone))
            .unwrap();
    }
    for parameter in model.layout() {
        let (ours, want) = (&together[parameter.range.clone()], &summed[parameter.range.clone()]);
        let scale = want.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let difference = largest_difference(ours, want);
        assert!(difference < 1e-4 * scale, "{}: {difference} of {scale}", parameter.name);
    }
}
