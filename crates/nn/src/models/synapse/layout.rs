//! The flat buffer of a model's weights: where each tensor lies, its initial values, and whether weight decay applies.
//!
//! Sources of the initial values: Mamba (Gu and Dao 2023, §3.6) for step sizes and `A_log`; xLSTM (Beck et al. 2024)
//! for the gates; its projections as there; the rest N(0, `initializer_range`), projections back into the stream divided by √(2·layers).

use std::ops::Range;

use crate::Parameter;
use synapse_checkpoint::{ModelConfig, SynapseConfig};
use synapse_kernels::random::Stream;

/// The tensors of a model in file order.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) parameters: Vec<Parameter>,
}

impl Layout {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let mut next = 0;
        let parameters = config
            .tensors()
            .into_iter()
            .map(|(name, shape)| {
                let start = next;
                next += shape.iter().product::<usize>();
                Parameter {
                    decays: decays(&name, &shape),
                    name,
                    shape,
                    range: start..next,
                }
            })
            .collect();
        Self { parameters }
    }

    pub(crate) fn len(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range.end)
    }

    /// Where a tensor lies.
    ///
    /// # Panics
    /// If the configuration has no such tensor.
    pub(crate) fn range(&self, name: &str) -> Range<usize> {
        match self.parameters.iter().find(|parameter| parameter.name == name) {
            Some(parameter) => parameter.range.clone(),
            None => unreachable!("the configuration has no tensor {name}"),
        }
    }

    /// Random initial values; the same seed gives the same values.
    pub(crate) fn initial(&self, config: &ModelConfig, modules: &SynapseConfig, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.len()];
        for (index, parameter) in self.parameters.iter().enumerate() {
            let stream = Stream::new(&[seed, index as u64]);
            let start = Initializer::of(parameter, config, modules);
            start.fill(stream, &mut values[parameter.range.clone()]);
        }
        values
    }
}

/// Weight decay is for matrices that mix features: not for norms, biases, filters of a convolution, decay rates.
fn decays(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2 && !name.ends_with("A_log") && !name.ends_with("conv.weight")
}

/// The initial values of a tensor.
enum Initializer {
    Zero,
    One,
    /// N(0, σ).
    Normal(f32),
    /// U(−b, b).
    Uniform(f32),
    /// `ln(n + 1)` along the last axis of this length.
    Rates(usize),
    /// Such that softplus of it is log-uniform in [1e-3, 1e-1].
    StepSizes,
    /// The language module's gates: the input gates N(0, 0.1), the forget gates from 3 to 6 over the heads.
    Gates(usize),
    /// Input gates of an sLSTM's channels as above, forget gates from 3 to 6 over the heads.
    ChannelGates {
        width: usize,
        heads: usize,
    },
}

impl Initializer {
    fn of(parameter: &Parameter, config: &ModelConfig, modules: &SynapseConfig) -> Self {
        let name = parameter.name.as_str();
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        let spread = config.initializer_range as f32;
        let columns = *parameter.shape.last().unwrap_or(&1);
        if ends(&["norm.weight", "language.skip", "thalamus.D"]) {
            Self::One
        } else if ends(&["thalamus.A_log"]) {
            Self::Rates(modules.router_state)
        } else if ends(&["memory.A_log", "thalamus.selection_bias"]) {
            Self::Zero
        } else if ends(&["thalamus.dt_proj.bias", "memory.decay_proj.bias"]) {
            Self::StepSizes
        } else if ends(&["conv.weight"]) || (name.contains(".thalamus.") && ends(&["proj.weight", "gate.weight"])) {
            Self::Uniform(1.0 / (columns as f32).sqrt())
        } else if ends(&["language.gates.bias"]) {
            Self::Gates(modules.language_heads)
        } else if ends(&["language.gate_proj.bias"]) {
            Self::ChannelGates {
                width: modules.language_size,
                heads: modules.language_heads,
            }
        } else if ends(&["language.gates.weight", "bias"]) {
            Self::Zero
        } else if ends(&["language.down_proj.weight", "memory.o_proj.weight"])
            || (name.contains(".experts.") && ends(&["down_proj.weight"]))
        {
            Self::Normal(spread / (2.0 * config.num_hidden_layers as f32).sqrt())
        } else {
            Self::Normal(spread)
        }
    }

    fn fill(&self, stream: Stream, values: &mut [f32]) {
        let count = values.len();
        for (index, value) in values.iter_mut().enumerate() {
            let i = index as u64;
            *value = match *self {
                Self::Zero => 0.0,
                Self::One => 1.0,
                Self::Normal(spread) => spread * stream.normal(i),
                Self::Uniform(bound) => bound * (2.0 * stream.uniform(i) - 1.0),
                Self::Rates(states) => ((index % states + 1) as f32).ln(),
                Self::StepSizes => {
                    let step = (1e-3f32.ln() + stream.uniform(i) * (1e-1f32.ln() - 1e-3f32.ln())).exp();
                    // the inverse of softplus
                    step + (-(-step).exp_m1()).ln()
                }
                Self::Gates(heads) if index < heads => 0.1 * stream.normal(i),
                Self::Gates(heads) => between(3.0, 6.0, index - heads, heads),
                Self::ChannelGates { width, .. } if index < width => 0.1 * stream.normal(i),
                Self::ChannelGates { width, heads } => {
                    between(3.0, 6.0, (index - width) * heads / (count - width), heads)
                }
            };
        }
    }
}

/// Point `index` of `count` even ones from `low` to `high`.
fn between(low: f32, high: f32, index: usize, count: usize) -> f32 {
    if count < 2 {
        return low;
    }
    low + (high - low) * index as f32 / (count - 1) as f32
}
