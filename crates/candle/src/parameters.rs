//! The flat buffer of LoRA parameters: the order of tensors and the initial values of `synapse_nn`, which
//! `tests/parity.rs` holds this file to.

use synapse_checkpoint::ModelConfig;
use synapse_kernels::random::MersenneTwister;
use synapse_nn::{LoraOptions, NnError, Parameter};

/// Per layer and slot, where in the layout a module's A lies; its B follows.
pub(crate) type Slots = Vec<[Option<usize>; 7]>;

/// PEFT's traversal order: per layer q, k, v, o, gate, up, down; A before B.
pub(crate) fn layout(config: &ModelConfig, options: &LoraOptions) -> Result<(Vec<Parameter>, Slots), NnError> {
    let modules = config.linear_modules();
    let suffixes = modules.map(|(module, _, _)| module.rsplit('.').next().unwrap_or(module));
    if let Some(target) = options
        .targets
        .iter()
        .find(|target| !suffixes.contains(&target.as_str()))
    {
        return Err(NnError::Unsupported {
            what: format!("LoRA target `{target}`"),
            hint: format!("this model has {}", suffixes.join(", ")),
        });
    }
    let (mut parameters, mut slots) = (Vec::<Parameter>::new(), Slots::new());
    for layer in 0..config.num_hidden_layers {
        let mut row = [None; 7];
        for (slot, (module, output, input)) in modules.into_iter().enumerate() {
            if !options.targets.iter().any(|target| target == suffixes[slot]) {
                continue;
            }
            row[slot] = Some(parameters.len());
            for (side, shape) in [("lora_A", [options.rank, input]), ("lora_B", [output, options.rank])] {
                let start = parameters.last().map_or(0, |last| last.range.end);
                let name = format!("model.layers.{layer}.{module}.{side}");
                parameters.push(Parameter {
                    name,
                    shape: shape.to_vec(),
                    range: start..start + shape[0] * shape[1],
                    decays: true,
                });
            }
        }
        slots.push(row);
    }
    Ok((parameters, slots))
}

/// What PEFT draws from torch's generator after `set_seed(seed)`: per module the discarded initial values of two
/// `nn.Linear`, then A ~ U(±1/√in); B is zero.
pub(crate) fn initial(layout: &[Parameter], seed: u64) -> Vec<f32> {
    let mut generator = MersenneTwister::new(seed);
    let mut values = vec![0.0; layout.last().map_or(0, |last| last.range.end)];
    for module in layout.chunks_exact(2) {
        for _ in 0..module[0].range.len() + module[1].range.len() {
            generator.next_u32();
        }
        let bound = (3.0f64.sqrt() * ((2.0f64 / 6.0).sqrt() / (module[0].shape[1] as f64).sqrt())) as f32;
        for value in &mut values[module[0].range.clone()] {
            *value = generator.uniform(-bound, bound);
        }
    }
    values
}
