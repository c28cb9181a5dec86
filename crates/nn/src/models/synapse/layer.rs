//! One layer: the router chooses modules for every token, and each token is dispatched to those.
//!
//! Dispatch: `u = RMS(x); r = router(u); y = x + Σ_{m ∈ top-k} w_m · module_m(u + r)`; a module sees only the tokens
//! dispatched to it, and its state advances with those alone. Sequential, the ablation: language module, chosen experts
//! and memory one after the other, each with a norm of its own, every token through all three.
//!
//! The backward pass is in `backward`, the trace in `trace`.

mod backward;
mod trace;

use std::ops::Range;

use synapse_checkpoint::{ModelConfig, RoutingMode, SynapseConfig};
use synapse_kernels::norm;

pub(crate) use backward::BackwardContext;

use super::{
    dispatch::Dispatch,
    experts::{self, Expert},
    language::{self, Language},
    layout::Layout,
    linear::Weights,
    memory::{self, Memory},
    recurrent_state::{RecurrentState, States},
    router::{self, Router},
    routing::TopKRouting,
    sequence_module::{ModuleInput, SequenceModule},
};

/// A layer's modules and where their weights lie.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    routing: RoutingMode,
    /// One norm in dispatch; language, experts, memory in sequence.
    norms: Vec<Range<usize>>,
    epsilon: f32,
    hidden: usize,
    k: usize,
    router: Router,
    /// Where the selection bias lies, in a model that has one.
    selection_bias: Option<Range<usize>>,
    relay: bool,
    balance_all: bool,
    language: Language,
    experts: Vec<Expert>,
    memory: Memory,
}

/// A norm's output, and what its backward pass needs.
#[derive(Debug)]
struct Normed {
    u: Vec<f32>,       // [t, hidden]
    inverse: Vec<f32>, // [t]
}

/// A module on the rows dispatched to it, with its saved activations.
#[derive(Debug)]
struct DispatchedModule<K> {
    dispatch: Dispatch,
    u: Vec<f32>, // [rows, hidden]
    y: Vec<f32>, // [rows, hidden]
    saved: K,
}

/// The routing of a batch.
#[derive(Debug)]
struct Routed {
    logits: Vec<f32>, // [t, choices]
    choices: TopKRouting,
    saved: router::SavedActivations,
    /// The modules' input `u + r`, if it is not `u`.
    relayed: Option<Vec<f32>>, // [t, hidden]
}

impl Routed {
    fn seen<'a>(&'a self, u: &'a [f32]) -> &'a [f32] {
        self.relayed.as_deref().unwrap_or(u)
    }
}

/// What the backward pass of a layer needs besides its input.
#[derive(Debug)]
pub(crate) enum SavedActivations {
    Dispatch(Box<DispatchActivations>),
    Sequential(Box<SequentialActivations>),
}

#[derive(Debug)]
pub(crate) struct DispatchActivations {
    normed: Normed,
    routed: Routed,
    language: Option<DispatchedModule<language::SavedActivations>>,
    experts: Vec<Option<DispatchedModule<experts::SavedActivations>>>,
    memory: Option<DispatchedModule<memory::SavedActivations>>,
}

#[derive(Debug)]
pub(crate) struct SequentialActivations {
    first: Normed,
    language: language::SavedActivations,
    between: [Vec<f32>; 2], // the stream after the language module, and after the experts
    second: Normed,
    routed: Routed,
    experts: Vec<Option<DispatchedModule<experts::SavedActivations>>>,
    third: Normed,
    memory: memory::SavedActivations,
}

impl Layer {
    pub(crate) fn new(layout: &Layout, index: usize, config: &ModelConfig, modules: &SynapseConfig) -> Self {
        let prefix = format!("model.layers.{index}");
        let norm = |name: &str| layout.range(&format!("{prefix}.{name}.weight"));
        Self {
            routing: modules.routing,
            norms: match modules.routing {
                RoutingMode::Dispatch => vec![norm("norm")],
                RoutingMode::Sequential => ["language_norm", "experts_norm", "memory_norm"].map(norm).to_vec(),
            },
            epsilon: config.rms_norm_eps as f32,
            hidden: config.hidden_size,
            k: modules.modules_per_token,
            router: Router::new(layout, &prefix, config, modules),
            relay: modules.relay,
            balance_all: modules.balance_all,
            selection_bias: (modules.selection_bias_rate > 0.0)
                .then(|| layout.range(&format!("{prefix}.thalamus.selection_bias"))),
            language: Language::new(layout, &prefix, index, config, modules),
            experts: (0..modules.num_experts)
                .map(|expert| Expert::new(layout, &prefix, expert, config, modules))
                .collect(),
            memory: Memory::new(layout, &prefix, config, modules),
        }
    }

    /// Values of a document's state: router, language module, memory.
    pub(crate) fn state_len(&self) -> usize {
        self.router.state_len() + self.language.state_len() + self.memory.state_len()
    }

    /// Number of modules that the router chooses from.
    pub(crate) fn choices(&self) -> usize {
        match self.routing {
            RoutingMode::Dispatch => self.experts.len() + 2,
            RoutingMode::Sequential => self.experts.len(),
        }
    }

    /// Which of the choices are experts.
    pub(crate) fn expert_choices(&self) -> Range<usize> {
        match self.routing {
            RoutingMode::Dispatch => 1..self.experts.len() + 1,
            RoutingMode::Sequential => 0..self.experts.len(),
        }
    }

    /// Which of the choices the balance loss and the selection's bias are over.
    fn balanced_choices(&self) -> Range<usize> {
        if self.balance_all {
            0..self.choices()
        } else {
            self.expert_choices()
        }
    }

    /// `x [t, hidden]` → `[t, hidden]`.
    pub(crate) fn forward(
        &self,
        weights: Weights<'_>,
        x: &[f32],
        lengths: &[usize],
        states: States<'_>,
    ) -> (Vec<f32>, SavedActivations) {
        let (router, rest) = split(states, self.router.state_len());
        let (language, memory) = split(rest, self.language.state_len());
        match self.routing {
            RoutingMode::Dispatch => self.dispatch(weights, x, lengths, [router, language, memory]),
            RoutingMode::Sequential => self.sequence(weights, x, lengths, [router, language, memory]),
        }
    }

    fn dispatch(
        &self,
        weights: Weights<'_>,
        x: &[f32],
        lengths: &[usize],
        [router, mut language_states, mut memory_states]: [States<'_>; 3],
    ) -> (Vec<f32>, SavedActivations) {
        let normed = self.norm(weights, 0, x);
        let routed = self.route(weights, &normed.u, lengths, router);
        let mut y = x.to_vec();
        let seen = routed.seen(&normed.u);
        let language = self.run_module(&routed.choices, 0, lengths, seen, |u, lengths| {
            let input = ModuleInput { u, lengths };
            self.language
                .forward(weights, input, recurrent_state(&mut language_states))
        });
        let experts = self.experts(weights, &routed.choices, lengths, seen);
        let memory = self.run_module(&routed.choices, self.experts.len() + 1, lengths, seen, |u, lengths| {
            let input = ModuleInput { u, lengths };
            self.memory.forward(weights, input, recurrent_state(&mut memory_states))
        });
        let chosen = &routed.choices.weights;
        combine(language.as_ref(), chosen, &mut y, self.hidden);
        for expert in &experts {
            combine(expert.as_ref(), chosen, &mut y, self.hidden);
        }
        combine(memory.as_ref(), chosen, &mut y, self.hidden);
        let saved = DispatchActivations {
            normed,
            routed,
            language,
            experts,
            memory,
        };
        (y, SavedActivations::Dispatch(Box::new(saved)))
    }

    fn sequence(
        &self,
        weights: Weights<'_>,
        x: &[f32],
        lengths: &[usize],
        [router, mut language_states, mut memory_states]: [States<'_>; 3],
    ) -> (Vec<f32>, SavedActivations) {
        let first = self.norm(weights, 0, x);
        let (mut stream, language) = self.language.forward(
            weights,
            ModuleInput { u: &first.u, lengths },
            recurrent_state(&mut language_states),
        );
        add_to(&mut stream, x);
        let after_language = stream.clone();
        let second = self.norm(weights, 1, &stream);
        let routed = self.route(weights, &second.u, lengths, router);
        let experts = self.experts(weights, &routed.choices, lengths, routed.seen(&second.u));
        for expert in &experts {
            combine(expert.as_ref(), &routed.choices.weights, &mut stream, self.hidden);
        }
        let third = self.norm(weights, 2, &stream);
        let (mut y, memory) = self.memory.forward(
            weights,
            ModuleInput { u: &third.u, lengths },
            recurrent_state(&mut memory_states),
        );
        add_to(&mut y, &stream);
        let saved = SequentialActivations {
            first,
            language,
            between: [after_language, stream],
            second,
            routed,
            experts,
            third,
            memory,
        };
        (y, SavedActivations::Sequential(Box::new(saved)))
    }

    fn norm(&self, weights: Weights<'_>, index: usize, x: &[f32]) -> Normed {
        let mut normed = Normed {
            u: vec![0.0; x.len()],
            inverse: vec![0.0; x.len() / self.hidden],
        };
        let weight = weights.of(&self.norms[index]);
        norm::forward(x, weight, self.epsilon, &mut normed.u, &mut normed.inverse);
        normed
    }

    fn route(&self, weights: Weights<'_>, u: &[f32], lengths: &[usize], mut states: States<'_>) -> Routed {
        let (logits, saved) = self.router.forward(weights, u, lengths, recurrent_state(&mut states));
        let choices = TopKRouting::of(
            &logits,
            self.selection_bias.as_ref().map(|range| weights.of(range)),
            self.choices(),
            self.k,
        );
        let relayed = self.relay.then(|| {
            let mut seen = u.to_vec();
            add_to(&mut seen, &saved.context);
            seen
        });
        Routed {
            logits,
            choices,
            saved,
            relayed,
        }
    }

    /// Runs one module on the rows dispatched to it; `None` without rows.
    fn run_module<K>(
        &self,
        choices: &TopKRouting,
        module: usize,
        lengths: &[usize],
        u: &[f32],
        forward: impl FnOnce(&[f32], &[usize]) -> (Vec<f32>, K),
    ) -> Option<DispatchedModule<K>> {
        let dispatch = Dispatch::new(choices, module, lengths);
        if dispatch.is_empty() {
            return None;
        }
        let u = dispatch.gather(u, self.hidden);
        let (y, saved) = forward(&u, &dispatch.lengths);
        Some(DispatchedModule { dispatch, u, y, saved })
    }

    fn experts(
        &self,
        weights: Weights<'_>,
        choices: &TopKRouting,
        lengths: &[usize],
        u: &[f32],
    ) -> Vec<Option<DispatchedModule<experts::SavedActivations>>> {
        self.experts
            .iter()
            .zip(self.expert_choices())
            .map(|(expert, module)| self.run_module(choices, module, lengths, u, |u, _| expert.forward(weights, u)))
            .collect()
    }
}

fn combine<K>(run: Option<&DispatchedModule<K>>, weights: &[f32], y: &mut [f32], hidden: usize) {
    if let Some(run) = run {
        run.dispatch.combine(&run.y, weights, y, hidden);
    }
}

fn add_to(y: &mut [f32], x: &[f32]) {
    synapse_kernels::elementwise::add(y, x);
}

/// The states of all documents, cut in two.
fn split(states: States<'_>, at: usize) -> (States<'_>, States<'_>) {
    match states {
        None => (None, None),
        Some(states) => {
            let (first, second) = states.into_iter().map(|state| state.split_at_mut(at)).unzip();
            (Some(first), Some(second))
        }
    }
}

fn recurrent_state<'a, 'b>(states: &'a mut States<'b>) -> RecurrentState<'a, 'b> {
    match states {
        None => RecurrentState::FullSequence,
        Some(states) => RecurrentState::Stateful(states),
    }
}
