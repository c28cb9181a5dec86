//! Each module by itself: a prompt in one go gives what token by token gives, whichever cell goes over it.
//!
//! Tolerance: 1e-4 of the row's largest value. Chunks and steps sum the same products in another order, and a document has
//! at most 150 rows here, so some hundred additions of f32's 6e-8 lie between them.
#![expect(clippy::unwrap_used, reason = "a failing test may panic")]

use synapse_checkpoint::{ModelConfig, SynapseConfig};
use synapse_kernels::{Precision, random::Stream};

use crate::linear::ReductionOrder;

use super::{
    experts::Expert,
    language::Language,
    layout::Layout,
    linear::Weights,
    memory::Memory,
    recurrent_state::RecurrentState,
    router::Router,
    sequence_module::{ModuleInput, SequenceModule},
};

const HIDDEN: usize = 24;
/// Longer than two chunks of the cells, shorter than one, and of one row.
const LENGTHS: [usize; 3] = [150, 40, 1];

/// Two layers' shapes and weights that are all in play, the norms' and biases' too; the first layer has an mLSTM, the
/// second an sLSTM.
struct Fixture {
    config: ModelConfig,
    modules: SynapseConfig,
    layout: Layout,
    values: Vec<f32>,
}

impl Fixture {
    fn new() -> Self {
        let text = format!(
            r#"{{ "architectures": ["SynapseForCausalLM"], "model_type": "synapse", "hidden_size": {HIDDEN},
            "num_hidden_layers": 2, "vocab_size": 40, "max_position_embeddings": 8192, "modules_per_token": 2,
            "num_experts": 3, "expert_intermediate_size": 20, "router_inner_size": 16, "router_state_size": 4,
            "language_inner_size": 16, "language_num_heads": 2, "slstm_every": 2, "memory_num_heads": 2,
            "memory_key_size": 6, "memory_value_size": 5, "initializer_range": 0.2 }}"#
        );
        let config = ModelConfig::from_json(&text, "config.json".as_ref()).unwrap();
        let modules = config.synapse.clone().unwrap();
        let layout = Layout::new(&config);
        let mut values = layout.initial(&config, &modules, 3);
        for (value, moved) in values.iter_mut().zip(normal(99, layout.len())) {
            *value += 0.05 * moved;
        }
        Self {
            config,
            modules,
            layout,
            values,
        }
    }

    fn weights(&self, order: ReductionOrder) -> Weights<'_> {
        Weights {
            values: &self.values,
            precision: Precision::F32,
            order,
            adapter: None,
        }
    }
}

fn normal(seed: u64, count: usize) -> Vec<f32> {
    let stream = Stream::new(&[seed]);
    (0..count as u64).map(|i| stream.normal(i)).collect()
}

/// The forward pass of a module over rows of some documents, with their states if it is stateful.
type Forward<'a> = dyn Fn(ReductionOrder, &[f32], &[usize], RecurrentState<'_, '_>) -> Vec<f32> + 'a;

/// Compares the three ways over the same documents.
fn compare(what: &str, state_len: usize, forward: &Forward<'_>) {
    let rows: usize = LENGTHS.iter().sum();
    let u = normal(7, rows * HIDDEN); // [rows, hidden]
    let whole = forward(ReductionOrder::Fastest, &u, &LENGTHS, RecurrentState::FullSequence);
    let width = whole.len() / rows;
    let read = |cuts: &dyn Fn(usize) -> Vec<usize>, order: ReductionOrder| {
        let mut out = Vec::with_capacity(whole.len());
        let mut start = 0;
        for length in LENGTHS {
            let mut state = vec![0.0; state_len];
            for piece in cuts(length) {
                let mut states = [state.as_mut_slice()];
                let rows = &u[start * HIDDEN..(start + piece) * HIDDEN];
                out.extend(forward(order, rows, &[piece], RecurrentState::Stateful(&mut states)));
                start += piece;
            }
        }
        out
    };
    let prompt = read(&|length| vec![length], ReductionOrder::Panels);
    let steps = read(&|length| vec![1; length], ReductionOrder::DotProducts);
    let uneven = |length: usize| {
        let first = length.div_ceil(3);
        [first, length - first].into_iter().filter(|&piece| piece > 0).collect()
    };
    assert_eq!(
        prompt,
        read(&uneven, ReductionOrder::Panels),
        "{what}: where a prompt is cut changes no bit"
    );
    for (name, found) in [("a prompt", &prompt), ("steps", &steps)] {
        for (row, (found, expected)) in found.chunks_exact(width).zip(whole.chunks_exact(width)).enumerate() {
            let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!(largest > 1e-3, "{what}: row {row} says next to nothing");
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 1e-4 * largest,
                    "{what}, {name}, row {row}: {found}, in chunks {expected}"
                );
            }
        }
    }
}

#[test]
fn the_router_reads_a_prompt_as_it_reads_steps() {
    let f = Fixture::new();
    let router = Router::new(&f.layout, "model.layers.0", &f.config, &f.modules);
    compare("router", router.state_len(), &|order, u, lengths, state| {
        let (logits, saved) = router.forward(f.weights(order), u, lengths, state);
        // what the router wants, and the context that the modules see
        logits
            .chunks_exact(f.modules.choices())
            .zip(saved.context.chunks_exact(HIDDEN))
            .flat_map(|(logits, context)| [logits, context].concat())
            .collect()
    });
}

#[test]
fn both_language_modules_read_a_prompt_as_they_read_steps() {
    let f = Fixture::new();
    for (layer, what) in ["mLSTM", "sLSTM"].into_iter().enumerate() {
        let prefix = format!("model.layers.{layer}");
        let language = Language::new(&f.layout, &prefix, layer, &f.config, &f.modules);
        assert_eq!(matches!(language, Language::Mlstm(_)), layer == 0);
        compare(what, language.state_len(), &|order, u, lengths, state| {
            language.forward(f.weights(order), ModuleInput { u, lengths }, state).0
        });
    }
}

#[test]
fn an_expert_reads_a_prompt_as_it_reads_steps() {
    let f = Fixture::new();
    let expert = Expert::new(&f.layout, "model.layers.0", 1, &f.config, &f.modules);
    compare("expert", 0, &|order, u, _, _| expert.forward(f.weights(order), u).0);
}

#[test]
fn the_memory_reads_a_prompt_as_it_reads_steps() {
    let f = Fixture::new();
    let memory = Memory::new(&f.layout, "model.layers.0", &f.config, &f.modules);
    compare("memory", memory.state_len(), &|order, u, lengths, state| {
        memory.forward(f.weights(order), ModuleInput { u, lengths }, state).0
    });
}
