//! A token's numbers depend on its phase and its own sequence alone: not on the batch, its adapters, or the chunks a
//! prompt was read in. Everything is compared bit for bit.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use std::path::Path;

use synapse_checkpoint::{AdapterConfig, AdapterTensor, ModelFiles, ModelFolder};
use synapse_kernels::random::Stream;
use synapse_nn::{
    Adapter, CausalLm, Decoder, KvCache, LoadOptions, LogitsFor, Phase, Precision, Sequence, WeightDtype,
};

/// Tokens generated after each prompt.
const GENERATED: usize = 6;

fn base() -> ModelFolder {
    ModelFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-qwen2")).unwrap()
}

/// An adapter of random factors, large enough to change every logit.
fn adapter(seed: u64, rank: usize, precision: Precision) -> Adapter {
    let base = base();
    let values = |seed: &[u64], count: usize| -> Vec<f32> {
        let stream = Stream::new(seed);
        (0..count as u64).map(|i| 0.1 * stream.normal(i)).collect()
    };
    let mut factors = Vec::new();
    for layer in 0..base.config().num_hidden_layers {
        for (slot, (module, output, input)) in base.config().linear_modules().into_iter().enumerate() {
            let key = [seed, layer as u64, slot as u64];
            let a = values(&[key[0], key[1], key[2], 0], rank * input);
            let b = values(&[key[0], key[1], key[2], 1], output * rank);
            factors.push((format!("model.layers.{layer}.{module}"), input, output, a, b));
        }
    }
    let tensors: Vec<AdapterTensor<'_>> = factors
        .iter()
        .map(|(module, input, output, a, b)| AdapterTensor {
            module,
            rank,
            in_features: *input,
            out_features: *output,
            a,
            b,
        })
        .collect();
    let modules = base.config().linear_modules();
    let targets: Vec<String> = modules
        .iter()
        .map(|(module, _, _)| module.rsplit('.').next().unwrap_or(module).to_owned())
        .collect();
    let config = AdapterConfig::lora("tiny-qwen2", rank, rank as f64, &targets);
    let folder = tempfile::tempdir().unwrap();
    synapse_checkpoint::write_adapter(folder.path(), &config, &tensors).unwrap();
    Adapter::load_for_inference(folder.path(), &ModelFiles::Folder(base), precision).unwrap()
}

/// Every way weights are held and multiplied.
fn decoders() -> Vec<(&'static str, Decoder)> {
    let nf4 = |precision| LoadOptions {
        dtype: WeightDtype::Nf4 { double_quant: true },
        precision,
    };
    let ggml = |dtype| LoadOptions {
        dtype,
        precision: Precision::Bf16,
    };
    let load = |options: &LoadOptions| Decoder::load(&base(), options).unwrap();
    vec![
        ("f32", load(&LoadOptions::EXACT)),
        ("bf16", load(&LoadOptions::BF16)),
        ("nf4", load(&nf4(Precision::Bf16))),
        ("nf4 in f32", load(&nf4(Precision::F32))),
        (
            "tiles",
            Decoder::load_for_inference(&base(), &nf4(Precision::Bf16)).unwrap(),
        ),
        ("q4_0", load(&ggml(WeightDtype::Q4_0))),
        ("q8_0", load(&ggml(WeightDtype::Q8_0))),
    ]
}

/// A request: its prompt, its adapter and what it has given so far.
struct Request<'a> {
    prompt: Vec<u32>,
    adapter: Option<&'a Adapter>,
    cache: KvCache,
    next: [u32; 1],
    logits: Vec<Vec<f32>>,
}

impl<'a> Request<'a> {
    fn new(decoder: &Decoder, length: usize, adapter: Option<&'a Adapter>) -> Self {
        Self {
            prompt: (0..length as u32).map(|i| (i * 37 + length as u32) % 128).collect(),
            adapter,
            cache: decoder.new_cache(),
            next: [0],
            logits: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.logits.len() == GENERATED
    }

    /// The next part of it, at most `chunk` tokens of its prompt.
    fn sequence(&mut self, chunk: usize) -> Sequence<'_> {
        let read = self.cache.len();
        let end = self.prompt.len().min(read.saturating_add(chunk));
        let prompt = read < self.prompt.len();
        Sequence {
            tokens: if prompt { &self.prompt[read..end] } else { &self.next },
            cache: &mut self.cache,
            phase: if prompt { Phase::Prefill } else { Phase::Decode },
            adapter: self.adapter,
            logits: if end == self.prompt.len() {
                LogitsFor::Last
            } else {
                LogitsFor::None
            },
        }
    }

    fn accept(&mut self, logits: Vec<f32>) {
        if !logits.is_empty() {
            let best = (0..logits.len())
                .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
                .unwrap();
            self.next = [best as u32];
            self.logits.push(logits);
        }
    }
}

fn run(decoder: &Decoder, requests: &mut [Request<'_>], chunks: impl Fn(usize) -> usize) {
    while requests.iter().any(|request| !request.is_done()) {
        let (places, mut batch): (Vec<usize>, Vec<Sequence<'_>>) = requests
            .iter_mut()
            .enumerate()
            .filter(|(_, request)| !request.is_done())
            .map(|(place, request)| (place, request.sequence(chunks(place))))
            .unzip();
        let logits = decoder.forward(&mut batch).unwrap();
        drop(batch);
        for (place, logits) in places.into_iter().zip(logits) {
            requests[place].accept(logits);
        }
    }
}

#[test]
fn a_batch_of_mixed_adapters_gives_each_request_the_bits_it_gets_alone() {
    let adapters = [(1, 4, Precision::F32), (2, 8, Precision::F32), (2, 8, Precision::Bf16)];
    let adapters = adapters.map(|(seed, rank, precision)| adapter(seed, rank, precision));
    let shapes = [
        (1, None),
        (9, Some(0)),
        (30, Some(1)),
        (3, Some(0)),
        (17, Some(2)),
        (2, None),
        (40, Some(1)),
    ];
    for (name, decoder) in decoders() {
        let requests = || -> Vec<Request<'_>> {
            let request = |&(length, adapter): &(usize, Option<usize>)| {
                Request::new(&decoder, length, adapter.map(|index| &adapters[index]))
            };
            shapes.iter().map(request).collect()
        };
        let mut alone = requests();
        alone
            .iter_mut()
            .for_each(|request| run(&decoder, std::slice::from_mut(request), |_| usize::MAX));
        let mut together = requests();
        run(&decoder, &mut together, |place| 1 + place);
        for ((together, alone), shape) in together.iter().zip(&alone).zip(&shapes) {
            assert!(
                together.logits == alone.logits,
                "{name}: {shape:?} differs in the batch"
            );
        }
        assert!(alone[2].logits != alone[6].logits);
        let mut bare = Request::new(&decoder, 30, None);
        run(&decoder, std::slice::from_mut(&mut bare), |_| usize::MAX);
        assert!(bare.logits != alone[2].logits, "{name}: the adapter changes nothing");
    }
}

#[test]
fn few_bits_stay_near_the_weights_they_round() {
    let logits = |decoder: &Decoder| {
        let mut request = Request::new(decoder, 20, None);
        run(decoder, std::slice::from_mut(&mut request), |_| usize::MAX);
        request.logits
    };
    let options = LoadOptions {
        dtype: WeightDtype::Nf4 { double_quant: true },
        precision: Precision::Bf16,
    };
    let exact = logits(&Decoder::load(&base(), &options).unwrap());
    let rounded = logits(&Decoder::load_for_inference(&base(), &options).unwrap());
    assert_eq!(exact[0], rounded[0], "the prompt keeps its numbers");
    let largest = exact[1].iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let difference = exact[1]
        .iter()
        .zip(&rounded[1])
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    // a block's values lie some 2.5 deviations below its largest, so 127 steps are off by 0.6 % on average, weights
    // and activations alike: 0.8 % a product, a dozen products deep, and the largest of 128 logits three deviations off
    assert!(
        difference > 0.0 && difference < 0.1 * largest,
        "{difference} of {largest}"
    );
}

/// The sum of a prompt's hidden states, read in chunks, while another request is answered beside it.
fn hidden_sum(decoder: &Decoder, prompt: &[u32], beside: Option<&Adapter>) -> Vec<f32> {
    let mut cache = decoder.new_cache();
    let mut other = Request::new(decoder, 11, beside);
    let mut sum = vec![0.0f32; decoder.hidden_size()];
    for chunk in prompt.chunks(8) {
        let own = Sequence {
            tokens: chunk,
            cache: &mut cache,
            phase: Phase::Prefill,
            adapter: None,
            logits: LogitsFor::HiddenSum,
        };
        let mut batch = vec![own];
        if beside.is_some() {
            batch.insert(0, other.sequence(3));
        }
        let mut outputs = decoder.forward(&mut batch).unwrap();
        let part = outputs.pop().unwrap();
        drop(batch);
        outputs.into_iter().for_each(|logits| other.accept(logits));
        sum.iter_mut().zip(part).for_each(|(total, value)| *total += value);
    }
    sum
}

#[test]
fn hidden_states_are_those_under_the_head_and_depend_on_no_neighbor() {
    let neighbor = adapter(3, 4, Precision::F32);
    let prompt: Vec<u32> = (0..29).map(|i| (i * 31 + 5) % 128).collect();
    for (name, decoder) in decoders() {
        let alone = hidden_sum(&decoder, &prompt, None);
        assert_eq!(alone, hidden_sum(&decoder, &prompt, Some(&neighbor)), "{name}");
    }

    // the head of this model is its embedding, so one token's logits are products with its hidden state
    let decoder = Decoder::load(&base(), &LoadOptions::EXACT).unwrap();
    let hidden = hidden_sum(&decoder, &[7], None);
    let mut cache = decoder.new_cache();
    let logits = decoder
        .forward(&mut [Sequence {
            tokens: &[7],
            cache: &mut cache,
            phase: Phase::Prefill,
            adapter: None,
            logits: LogitsFor::Last,
        }])
        .unwrap();
    let head = base().read_f32("model.embed_tokens.weight").unwrap();
    for (row, logit) in head.chunks_exact(decoder.hidden_size()).zip(&logits[0]) {
        let product: f32 = row.iter().zip(&hidden).map(|(a, b)| a * b).sum();
        assert!((product - logit).abs() < 1e-4, "{product} is not {logit}");
    }
}

#[test]
fn a_prompt_that_begins_with_blocks_of_another_keeps_its_bits() {
    let adapter = adapter(4, 4, Precision::Bf16);
    for (name, decoder) in decoders() {
        for adapter in [None, Some(&adapter)] {
            let mut whole = Request::new(&decoder, 40, adapter);
            run(&decoder, std::slice::from_mut(&mut whole), |_| usize::MAX);
            // The other prompt shares 24 tokens, was read in other chunks, beside a neighbor, and was answered.
            let mut other = Request::new(&decoder, 40, adapter);
            other.prompt[24..].fill(3);
            let mut read = [other, Request::new(&decoder, 13, None)];
            run(&decoder, &mut read, |place| 5 + place);
            let mut begun = Request::new(&decoder, 40, adapter);
            for block in [0..8, 8..16, 16..24] {
                begun.cache.append(&read[0].cache.copy(block));
            }
            run(&decoder, std::slice::from_mut(&mut begun), |_| 7);
            assert!(begun.logits == whole.logits, "{name}: a prefix changes the answer");
        }
    }
}
