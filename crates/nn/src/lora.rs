//! LoRA's parameters: which tensor lies where in the flat buffer, and the initial values.
//!
//! The same layout serves every model family: it adapts any of [`ModelConfig::adaptable_modules`]. A target
//! such as `q_proj` means all modules whose last name is that.

use std::{collections::BTreeMap, ops::Range};

use synapse_checkpoint::ModelConfig;
use synapse_kernels::{
    elementwise::Dropout,
    random::{MersenneTwister, Stream},
};

use crate::NnError;

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

impl Default for LoraOptions {
    /// PEFT's defaults for Llama: rank 8, alpha 8, no dropout, `q_proj` and `v_proj`.
    fn default() -> Self {
        Self {
            rank: 8,
            scale: 1.0,
            dropout: 0.0,
            targets: ["q_proj", "v_proj"].map(str::to_owned).to_vec(),
        }
    }
}

/// The adapted modules and where their factors lie in the flat buffer of trainable parameters.
#[derive(Debug, Clone)]
pub struct LoraLayout {
    options: LoraOptions,
    parameters: Vec<Parameter>,
    modules: BTreeMap<String, LoraModule>,
}

/// One adapted module of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoraModule {
    /// Index of A among the parameters; B follows it.
    pub parameter: usize,
    /// The module's number among all adaptable ones, which keys its dropout mask.
    pub key: u64,
}

impl LoraLayout {
    /// Lays LoRA's tensors out in PEFT's traversal order: module by module as the model lists them, A before B.
    ///
    /// # Errors
    /// A target that is not the name of any module of the model.
    pub fn new(config: &ModelConfig, options: LoraOptions) -> Result<Self, NnError> {
        let adaptable = config.adaptable_modules();
        let suffix = |module: &str| module.rsplit('.').next().unwrap_or(module).to_owned();
        let mut known: Vec<String> = Vec::new();
        for (module, ..) in &adaptable {
            let suffix = suffix(module);
            if !known.contains(&suffix) {
                known.push(suffix);
            }
        }
        if let Some(target) = options.targets.iter().find(|target| !known.contains(target)) {
            return Err(NnError::Unsupported {
                what: format!("LoRA target `{target}`"),
                hint: format!("this model has {}", known.join(", ")),
            });
        }
        let (mut parameters, mut modules): (Vec<Parameter>, _) = (Vec::new(), BTreeMap::new());
        for (key, (module, output, input)) in (0..).zip(adaptable) {
            if !options.targets.contains(&suffix(&module)) {
                continue;
            }
            let parameter = parameters.len();
            for (factor, shape) in [("lora_A", [options.rank, input]), ("lora_B", [output, options.rank])] {
                let start = parameters.last().map_or(0, |last| last.range.end);
                parameters.push(Parameter {
                    name: format!("{module}.{factor}"),
                    shape: shape.to_vec(),
                    range: start..start + shape[0] * shape[1],
                    decays: true,
                });
            }
            modules.insert(module, LoraModule { parameter, key });
        }
        Ok(Self {
            options,
            parameters,
            modules,
        })
    }

    /// LoRA's shape.
    pub fn options(&self) -> &LoraOptions {
        &self.options
    }

    /// The trainable tensors in the order they lie in the flat buffer.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Length of the flat buffer.
    pub fn num_values(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range.end)
    }

    /// An adapted module by its full name, such as `model.layers.0.self_attn.q_proj`.
    pub fn module(&self, name: &str) -> Option<LoraModule> {
        self.modules.get(name).copied()
    }

    /// The dropout mask of a module in the step with this key: seed, optimizer step, micro-batch.
    pub fn dropout(&self, module: LoraModule, key: [u64; 3]) -> Option<Dropout> {
        let [seed, step, micro_batch] = key;
        (self.options.dropout > 0.0).then(|| Dropout {
            stream: Stream::new(&[seed, step, micro_batch, module.key]),
            probability: self.options.dropout,
        })
    }
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
