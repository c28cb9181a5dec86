//! One layer: the thalamus looks at every token and sends it to the modules that fire.
//!
//! Dispatch: `u = RMS(x); r = thalamus(u); y = x + Σ_{m ∈ top-k} w_m · module_m(u + r)`; a module sees only the tokens
//! that were sent to it, and its state moves with those alone. Sequential, the ablation: language module, chosen experts
//! and memory one after the other, each with a norm of its own, every token through all three.
//!
//! The way back is in `backward`, what a trace shows in `firing`.

mod backward;
mod firing;

use std::ops::Range;

use synapse_checkpoint::{ModelConfig, Routing, SynapseConfig};
use synapse_kernels::norm;

pub(crate) use backward::Descent;

use crate::models::synapse::{
    carry::{Carry, States},
    experts::{self, Expert},
    language::{self, Language},
    layout::Layout,
    linear::Weights,
    memory::{self, Memory},
    routing::Choices,
    sent::Sent,
    thalamus::{self, Thalamus},
};

/// A layer's modules and where their weights lie.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    routing: Routing,
    /// One norm in dispatch; language, experts, memory in sequence.
    norms: Vec<Range<usize>>,
    epsilon: f32,
    hidden: usize,
    k: usize,
    thalamus: Thalamus,
    /// Where the bias on the selection lies, in a model that has one.
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

/// What a module kept of the rows that it saw.
#[derive(Debug)]
struct Part<K> {
    sent: Sent,
    u: Vec<f32>, // [rows, hidden]
    y: Vec<f32>, // [rows, hidden]
    kept: K,
}

/// The thalamus' view of a batch.
#[derive(Debug)]
struct Routed {
    logits: Vec<f32>, // [t, choices]
    choices: Choices,
    kept: thalamus::Kept,
    /// What the modules see, where that is not `u`: `u + r`.
    relayed: Option<Vec<f32>>, // [t, hidden]
}

impl Routed {
    fn seen<'a>(&'a self, u: &'a [f32]) -> &'a [f32] {
        self.relayed.as_deref().unwrap_or(u)
    }
}

/// What the backward pass of a layer needs besides its input.
#[derive(Debug)]
pub(crate) enum Kept {
    Dispatch(Box<Dispatched>),
    Sequential(Box<Sequenced>),
}

#[derive(Debug)]
pub(crate) struct Dispatched {
    normed: Normed,
    routed: Routed,
    language: Option<Part<language::Kept>>,
    experts: Vec<Option<Part<experts::Kept>>>,
    memory: Option<Part<memory::Kept>>,
}

#[derive(Debug)]
pub(crate) struct Sequenced {
    first: Normed,
    language: language::Kept,
    between: [Vec<f32>; 2], // the stream after the language module, and after the experts
    second: Normed,
    routed: Routed,
    experts: Vec<Option<Part<experts::Kept>>>,
    third: Normed,
    memory: memory::Kept,
}

impl Layer {
    pub(crate) fn new(layout: &Layout, index: usize, config: &ModelConfig, modules: &SynapseConfig) -> Self {
        let prefix = format!("model.layers.{index}");
        let norm = |name: &str| layout.range(&format!("{prefix}.{name}.weight"));
        Self {
            routing: modules.routing,
            norms: match modules.routing {
                Routing::Dispatch => vec![norm("norm")],
                Routing::Sequential => ["language_norm", "experts_norm", "memory_norm"].map(norm).to_vec(),
            },
            epsilon: config.rms_norm_eps as f32,
            hidden: config.hidden_size,
            k: modules.modules_per_token,
            thalamus: Thalamus::new(layout, &prefix, config, modules),
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

    /// Values of a document's state: thalamus, language module, memory.
    pub(crate) fn state_len(&self) -> usize {
        self.thalamus.state_len() + self.language.state_len() + self.memory.state_len()
    }

    /// What the thalamus chooses among.
    pub(crate) fn choices(&self) -> usize {
        match self.routing {
            Routing::Dispatch => self.experts.len() + 2,
            Routing::Sequential => self.experts.len(),
        }
    }

    /// Which of the choices are experts.
    pub(crate) fn expert_choices(&self) -> Range<usize> {
        match self.routing {
            Routing::Dispatch => 1..self.experts.len() + 1,
            Routing::Sequential => 0..self.experts.len(),
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
    ) -> (Vec<f32>, Kept) {
        let (thalamus, rest) = split(states, self.thalamus.state_len());
        let (language, memory) = split(rest, self.language.state_len());
        match self.routing {
            Routing::Dispatch => self.dispatch(weights, x, lengths, [thalamus, language, memory]),
            Routing::Sequential => self.sequence(weights, x, lengths, [thalamus, language, memory]),
        }
    }

    fn dispatch(
        &self,
        weights: Weights<'_>,
        x: &[f32],
        lengths: &[usize],
        [thalamus, mut language_states, mut memory_states]: [States<'_>; 3],
    ) -> (Vec<f32>, Kept) {
        let normed = self.norm(weights, 0, x);
        let routed = self.route(weights, &normed.u, lengths, thalamus);
        let mut y = x.to_vec();
        let seen = routed.seen(&normed.u);
        let language = self.part(&routed.choices, 0, lengths, seen, |u, lengths| {
            self.language.forward(weights, u, lengths, carry(&mut language_states))
        });
        let experts = self.experts(weights, &routed.choices, lengths, seen);
        let memory = self.part(&routed.choices, self.experts.len() + 1, lengths, seen, |u, lengths| {
            self.memory.forward(weights, u, lengths, carry(&mut memory_states))
        });
        let chosen = &routed.choices.weights;
        add_part(language.as_ref(), chosen, &mut y, self.hidden);
        for expert in &experts {
            add_part(expert.as_ref(), chosen, &mut y, self.hidden);
        }
        add_part(memory.as_ref(), chosen, &mut y, self.hidden);
        let kept = Dispatched {
            normed,
            routed,
            language,
            experts,
            memory,
        };
        (y, Kept::Dispatch(Box::new(kept)))
    }

    fn sequence(
        &self,
        weights: Weights<'_>,
        x: &[f32],
        lengths: &[usize],
        [thalamus, mut language_states, mut memory_states]: [States<'_>; 3],
    ) -> (Vec<f32>, Kept) {
        let first = self.norm(weights, 0, x);
        let (mut stream, language) = self
            .language
            .forward(weights, &first.u, lengths, carry(&mut language_states));
        add_to(&mut stream, x);
        let after_language = stream.clone();
        let second = self.norm(weights, 1, &stream);
        let routed = self.route(weights, &second.u, lengths, thalamus);
        let experts = self.experts(weights, &routed.choices, lengths, routed.seen(&second.u));
        for expert in &experts {
            add_part(expert.as_ref(), &routed.choices.weights, &mut stream, self.hidden);
        }
        let third = self.norm(weights, 2, &stream);
        let (mut y, memory) = self
            .memory
            .forward(weights, &third.u, lengths, carry(&mut memory_states));
        add_to(&mut y, &stream);
        let kept = Sequenced {
            first,
            language,
            between: [after_language, stream],
            second,
            routed,
            experts,
            third,
            memory,
        };
        (y, Kept::Sequential(Box::new(kept)))
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
        let (logits, kept) = self.thalamus.forward(weights, u, lengths, carry(&mut states));
        let choices = Choices::of(
            &logits,
            self.selection_bias.as_ref().map(|range| weights.of(range)),
            self.choices(),
            self.k,
        );
        let relayed = self.relay.then(|| {
            let mut seen = u.to_vec();
            add_to(&mut seen, &kept.context);
            seen
        });
        Routed {
            logits,
            choices,
            kept,
            relayed,
        }
    }

    /// One module on the rows sent to it, or nothing where none was.
    fn part<K>(
        &self,
        choices: &Choices,
        module: usize,
        lengths: &[usize],
        u: &[f32],
        forward: impl FnOnce(&[f32], &[usize]) -> (Vec<f32>, K),
    ) -> Option<Part<K>> {
        let sent = Sent::new(choices, module, lengths);
        if sent.is_empty() {
            return None;
        }
        let u = sent.gather(u, self.hidden);
        let (y, kept) = forward(&u, &sent.lengths);
        Some(Part { sent, u, y, kept })
    }

    fn experts(
        &self,
        weights: Weights<'_>,
        choices: &Choices,
        lengths: &[usize],
        u: &[f32],
    ) -> Vec<Option<Part<experts::Kept>>> {
        self.experts
            .iter()
            .zip(self.expert_choices())
            .map(|(expert, module)| self.part(choices, module, lengths, u, |u, _| expert.forward(weights, u)))
            .collect()
    }
}

fn add_part<K>(part: Option<&Part<K>>, weights: &[f32], y: &mut [f32], hidden: usize) {
    if let Some(part) = part {
        part.sent.add_weighed(&part.y, weights, y, hidden);
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

fn carry<'a, 'b>(states: &'a mut States<'b>) -> Carry<'a, 'b> {
    match states {
        None => Carry::Whole,
        Some(states) => Carry::Steps(states),
    }
}
