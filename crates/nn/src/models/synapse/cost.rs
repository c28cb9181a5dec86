//! Peak memory of training a Synapse model, from shapes alone: the activations that the passes in `layer`, `router`,
//! `language`, `experts` and `memory` save, counted value by value.
//!
//! The routing is not known in advance, so every module is counted with an even share of the tokens, the goal of the
//! balance loss. `tests/synapse_memory.rs` compares the sums with an allocator's count. What this is not: time.

use synapse_checkpoint::{ModelConfig, RoutingMode, SynapseConfig};

use crate::{TrainableScope, TrainingMemory, Workload};

use super::training::LOGIT_ROWS;

/// Tokens of a chunk of the cells that keep a state at every chunk's border.
const CHUNK: usize = 64;
/// Bytes of a value; all are f32.
const VALUE: usize = 4;

/// Memory of training on a workload's micro-batches.
pub(super) fn memory(workload: &Workload<'_>) -> TrainingMemory {
    let sizes = Sizes::new(workload);
    let layers = workload.config.num_hidden_layers;
    let per_layer: Vec<usize> = (0..layers).map(|layer| sizes.saved(layer)).collect();
    let saved: usize = if workload.recompute {
        per_layer.iter().copied().max().unwrap_or(0)
    } else {
        per_layer.iter().sum()
    };
    let workspace = (0..layers).map(|layer| sizes.workspace(layer)).max().unwrap_or(0);
    let (weights, gradients, trained) = match workload.scope {
        TrainableScope::Full => (0, 0, workload.config.parameters()),
        // the pass holds gradients of the frozen weights too, and its own copy of the adapter's
        TrainableScope::Lora { .. } => {
            let (frozen, adapter) = (workload.config.parameters(), trainable_parameters(workload));
            (frozen, frozen + adapter, adapter)
        }
    };
    TrainingMemory {
        weights: VALUE as u64 * (weights + gradients),
        // values, gradients and two moments
        trainable: 4 * VALUE as u64 * trained,
        // the stream before every layer, and after the last
        activations: (VALUE * (sizes.tokens * sizes.hidden * (layers + 1) + saved)) as u64,
        workspace: (VALUE * workspace) as u64,
        logits: (VALUE * sizes.tokens.min(LOGIT_ROWS) * workload.config.vocab_size) as u64,
    }
}

/// Number of trainable parameters.
pub(super) fn trainable_parameters(workload: &Workload<'_>) -> u64 {
    match workload.scope {
        TrainableScope::Full => workload.config.parameters(),
        TrainableScope::Lora { .. } => adapter(workload).map(|(_, values)| values as u64).sum(),
    }
}

/// The adapted modules, each with its number of values; none in full training.
fn adapter<'a>(workload: &Workload<'a>) -> impl Iterator<Item = (String, usize)> + use<'a> {
    let (rank, targets) = match workload.scope {
        TrainableScope::Full => (0, &[][..]),
        TrainableScope::Lora { rank, targets, .. } => (rank, targets),
    };
    let wanted = |module: &str| targets.iter().any(|target| module.ends_with(&format!(".{target}")));
    let modules = workload.config.adaptable_modules().into_iter();
    modules
        .filter(move |(module, ..)| wanted(module))
        .map(move |(module, output, input)| (module, rank * (output + input)))
}

/// Floating-point operations of the products with weights, forward and backward over one micro-batch, a multiplication
/// and an addition counted as two; `target_share` is the share of positions that are trained. The cells' own work is not
/// counted; in the bundled model it is a tenth of this.
pub(super) fn flops(workload: &Workload<'_>, target_share: f64) -> f64 {
    let config = workload.config;
    let sizes = Sizes::new(workload);
    let even = sizes.modules.modules_per_token as f64 / sizes.modules.choices() as f64;
    let weights = config.weights_per_token() as f64;
    // values of routed modules count by the mean share of tokens that see them
    let adapter: f64 = adapter(workload)
        .map(|(module, values)| values as f64 * if sizes.is_sent(&module) { even } else { 1.0 })
        .sum();
    let weight_gradients = if matches!(workload.scope, TrainableScope::Full) {
        2.0
    } else {
        0.0
    };
    let forward = 2.0 * weights + 2.0 * adapter;
    let backward = (2.0 + weight_gradients) * weights + 4.0 * adapter;
    let again = if workload.recompute { forward } else { 0.0 };
    let head = (4.0 + weight_gradients) * (config.vocab_size * config.hidden_size) as f64 * target_share;
    workload.tokens as f64 * (forward + backward + again + head)
}

/// Rows of one module, and how they fall on documents.
#[derive(Clone, Copy)]
struct Rows {
    count: usize,
    documents: usize,
    /// Of one document.
    longest: usize,
}

impl Rows {
    fn chunks(self) -> usize {
        self.longest.div_ceil(CHUNK)
    }
}

/// What the sums are made of. All results are numbers of values.
struct Sizes<'a> {
    modules: &'a SynapseConfig,
    hidden: usize,
    tokens: usize,
    documents: usize,
    longest: usize,
}

impl<'a> Sizes<'a> {
    fn new(workload: &Workload<'a>) -> Self {
        let config: &'a ModelConfig = workload.config;
        let Some(modules) = &config.synapse else {
            unreachable!("the caller asks for a Synapse model")
        };
        let longest = workload.longest.clamp(1, workload.tokens.max(1));
        Self {
            modules,
            hidden: config.hidden_size,
            tokens: workload.tokens,
            documents: workload.tokens.div_ceil(longest),
            longest,
        }
    }

    /// Whether a token passes this module only if the router chooses it.
    fn is_sent(&self, module: &str) -> bool {
        match self.modules.routing {
            RoutingMode::Dispatch => !module.contains(".thalamus."),
            RoutingMode::Sequential => module.contains(".experts."),
        }
    }

    fn all(&self) -> Rows {
        Rows {
            count: self.tokens,
            documents: self.documents,
            longest: self.longest,
        }
    }

    /// An even share of all rows.
    fn dispatch(&self) -> Rows {
        let share = |rows: usize| (rows * self.modules.modules_per_token).div_ceil(self.modules.choices());
        Rows {
            count: share(self.tokens),
            documents: self.documents,
            longest: share(self.longest),
        }
    }

    /// Saved by a layer for its backward pass.
    fn saved(&self, layer: usize) -> usize {
        let (hidden, tokens, dispatch) = (self.hidden, self.tokens, self.dispatch());
        let m = self.modules;
        // row and weight indices, the gathered row, and the output
        let part = |rows: Rows| rows.count * (4 + 2 * hidden);
        let experts = m.num_experts * (part(dispatch) + dispatch.count * 3 * m.expert_size);
        let relayed = if m.relay { tokens * hidden } else { 0 };
        let always = tokens * self.router() + relayed;
        match m.routing {
            RoutingMode::Dispatch => {
                let norm = tokens * (hidden + 1);
                let modules = 2 * part(dispatch) + self.language(layer, dispatch) + self.memory(dispatch);
                always + norm + experts + modules
            }
            RoutingMode::Sequential => {
                // three norms, and the stream between them
                let norms = tokens * (3 * (hidden + 1) + 2 * hidden);
                always + norms + experts + self.language(layer, self.all()) + self.memory(self.all())
            }
        }
    }

    /// A token in the router, and its routing.
    fn router(&self) -> usize {
        let m = self.modules;
        7 * m.router_size
            + 2 * m.router_state
            + m.step_rank(self.hidden)
            + self.hidden
            + m.choices()
            + 2 * m.modules_per_token
    }

    fn language(&self, layer: usize, rows: Rows) -> usize {
        let m = self.modules;
        let (width, heads) = (m.language_size, m.language_heads);
        let head = width / heads;
        if m.is_slstm(layer) {
            // the cell's records are eight vectors of whole lanes
            let record = 8 * heads * head.next_multiple_of(16);
            return rows.count * (self.hidden + 6 * width + 3 * m.slstm_feed_forward() + record);
        }
        let borders = rows.documents * rows.chunks().saturating_sub(1) * heads * (head * head + head + 1);
        rows.count * (12 * width + 2 * heads) + borders
    }

    /// All heads' keys, and all heads' values.
    fn memory_widths(&self) -> (usize, usize) {
        let m = self.modules;
        (m.memory_heads * m.memory_key_size, m.memory_heads * m.memory_value_size)
    }

    fn memory(&self, rows: Rows) -> usize {
        let (keys, values) = self.memory_widths();
        let borders = rows.documents * rows.chunks() * keys * self.modules.memory_value_size;
        rows.count * (6 * keys + 6 * values + 3 * self.modules.memory_heads) + borders
    }

    /// In use at once in the backward pass of a layer or of the loss, beside the saved activations.
    fn workspace(&self, layer: usize) -> usize {
        let m = self.modules;
        let (hidden, tokens) = (self.hidden, self.tokens);
        let (keys, values) = self.memory_widths();
        let width = m.language_size;
        // hidden states of the trained positions, normed, and the gradients of both
        let loss = tokens * 5 * hidden;
        let language = if m.is_slstm(layer) {
            m.slstm_feed_forward() + 12 * width + 2 * hidden
        } else {
            10 * width
        };
        let memory = 10 * keys + 6 * values;
        // the gradients of the layer's output and of what modules saw; those of a module's output and input; its own
        let through = |rows: usize, own: usize| tokens * 2 * hidden + rows * (2 * hidden + own);
        let modules = match m.routing {
            RoutingMode::Dispatch => through(self.dispatch().count, language.max(memory).max(m.expert_size)),
            RoutingMode::Sequential => through(tokens, language.max(memory)),
        };
        let router = tokens * (3 * hidden + 4 * m.router_size + 2 * m.router_state + m.choices());
        loss.max(modules).max(router)
    }
}
