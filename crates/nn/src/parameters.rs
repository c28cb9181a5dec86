//! The flat buffer of trainable parameters: which tensor lies where, and the initial values.

use std::ops::Range;

use synapse_checkpoint::ModelConfig;
use synapse_kernels::random::{MersenneTwister, Stream};

use crate::{NnError, linear::LoraRanges};

/// One trainable tensor of the flat buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Full training: the Hugging Face tensor name. LoRA: module name + `.lora_A` or `.lora_B`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub range: Range<usize>,
    /// Whether weight decay applies (not to norms and biases).
    pub decays: bool,
}

/// LoRA's shape, the same for every module.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraOptions {
    /// Rank of every module.
    pub rank: usize,
    /// Factor on the branch: `alpha / rank`, or `alpha / sqrt(rank)` with rsLoRA.
    pub scale: f32,
    /// Probability of dropping an input element of A in training.
    pub dropout: f32,
    /// Suffixes such as `q_proj`; every linear whose last name is among them is adapted.
    pub targets: Vec<String>,
}

/// Ranges of one adapted module.
#[derive(Debug, Clone)]
pub(crate) struct LoraSlot {
    pub(crate) ranges: LoraRanges,
}

/// The adapted modules of every layer, by slot.
pub(crate) type LoraSlots = Vec<[Option<LoraSlot>; 7]>;

/// Lays LoRA's tensors out in PEFT's traversal order: per layer q, k, v, o, gate, up, down; A before B.
pub(crate) fn lora_layout(config: &ModelConfig, options: &LoraOptions) -> Result<(Vec<Parameter>, LoraSlots), NnError> {
    if !config.has_attention() {
        return Err(NnError::Unsupported {
            what: "LoRA over a Synapse model".into(),
            hint: "train it with `train: { method: full }`".into(),
        });
    }
    let modules = config.linear_modules();
    let suffix = |module: &'static str| module.rsplit('.').next().unwrap_or(module);
    if let Some(target) = options
        .targets
        .iter()
        .find(|target| !modules.iter().any(|(module, _, _)| suffix(module) == target.as_str()))
    {
        let known: Vec<_> = modules.iter().map(|(module, _, _)| suffix(module)).collect();
        return Err(NnError::Unsupported {
            what: format!("LoRA target `{target}`"),
            hint: format!("this model has {}", known.join(", ")),
        });
    }
    let mut parameters: Vec<Parameter> = Vec::new();
    let mut place = |name: String, shape: [usize; 2]| {
        let start = parameters.last().map_or(0, |last| last.range.end);
        let range = start..start + shape[0] * shape[1];
        parameters.push(Parameter {
            name,
            shape: shape.to_vec(),
            range: range.clone(),
            decays: true,
        });
        range
    };
    let mut slots = Vec::with_capacity(config.num_hidden_layers);
    for layer in 0..config.num_hidden_layers {
        let mut row = [const { None }; 7];
        for (slot, (module, output, input)) in modules.iter().enumerate() {
            if options.targets.iter().any(|target| target == suffix(module)) {
                let name = format!("model.layers.{layer}.{module}");
                let a = place(format!("{name}.lora_A"), [options.rank, *input]);
                let b = place(format!("{name}.lora_B"), [*output, options.rank]);
                row[slot] = Some(LoraSlot {
                    ranges: LoraRanges { a, b },
                });
            }
        }
        slots.push(row);
    }
    Ok((parameters, slots))
}

/// Initial LoRA values as PEFT draws them from torch's generator after `set_seed(seed)`: per module the
/// discarded initial values of two `nn.Linear`, then A ~ U(±1/√in); B is zero.
pub fn initial_lora(parameters: &[Parameter], seed: u64) -> Vec<f32> {
    let mut generator = MersenneTwister::new(seed);
    let mut values = vec![0.0; parameters.last().map_or(0, |last| last.range.end)];
    for pair in parameters.chunks_exact(2) {
        for _ in 0..pair[0].range.len() + pair[1].range.len() {
            generator.next_u32();
        }
        let bound = (3.0f64.sqrt() * ((2.0f64 / 6.0).sqrt() / (pair[0].shape[1] as f64).sqrt())) as f32;
        for value in &mut values[pair[0].range.clone()] {
            *value = generator.uniform(-bound, bound);
        }
    }
    values
}

/// Initial values of a model trained from scratch: matrices N(0, `initializer_range`), norms one, biases zero.
pub(crate) fn initial_weights(parameters: &[Parameter], config: &ModelConfig, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; parameters.last().map_or(0, |last| last.range.end)];
    for (index, parameter) in parameters.iter().enumerate() {
        let target = &mut values[parameter.range.clone()];
        if parameter.shape.len() == 2 {
            let stream = Stream::new(&[seed, index as u64]);
            for (i, value) in target.iter_mut().enumerate() {
                *value = config.initializer_range as f32 * stream.normal(i as u64);
            }
        } else if parameter.name.ends_with("norm.weight") {
            target.fill(1.0);
        }
    }
    values
}
