//! LoRA's parameters: which tensor lies where in the flat buffer, the initial values, and the branch of one module.
//!
//! The same layout serves every model family: it asks [`ModelConfig::adaptable_modules`] what there is to adapt. A target
//! such as `q_proj` means all modules whose last name is that.

use std::{collections::BTreeMap, ops::Range};

use synapse_checkpoint::ModelConfig;
use synapse_kernels::{
    Matrix,
    elementwise::Dropout,
    random::{MersenneTwister, Stream},
};

use crate::{Adapter, NnError};

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

/// The adapter over the weights of a forward or backward pass.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AdapterSource<'a> {
    /// One that is being trained.
    Trained(TrainedAdapter<'a>),
    /// One that was loaded.
    Loaded(&'a Adapter),
}

/// An adapter that is being trained, in one pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TrainedAdapter<'a> {
    pub(crate) layout: &'a LoraLayout,
    /// The flat buffer.
    pub(crate) values: &'a [f32],
    /// Key of the dropout masks; `None` outside training.
    pub(crate) key: Option<[u64; 3]>,
    /// Where the adapter's gradients begin in the buffer of all gradients.
    pub(crate) gradient_offset: usize,
}

/// The LoRA branch of one module, `s·(M⊙x)·Aᵀ·Bᵀ`: `a [rank, input]`, `b [output, rank]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoraBranch<'a> {
    pub(crate) a: Matrix<'a>,
    pub(crate) b: Matrix<'a>,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: Option<Dropout>,
    /// Where the gradients of A and B begin, if they are trained.
    pub(crate) gradients: Option<LoraGradients>,
}

/// Where a branch's gradients begin in the flat gradient buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoraGradients {
    pub(crate) a: usize,
    pub(crate) b: usize,
}

impl<'a> AdapterSource<'a> {
    /// The branch of a module, if the adapter has one for it.
    pub(crate) fn branch(self, module: &str) -> Option<LoraBranch<'a>> {
        match self {
            Self::Trained(TrainedAdapter {
                layout,
                values,
                key,
                gradient_offset,
            }) => {
                let found = layout.module(module)?;
                let (a, b) = (
                    layout.parameters[found.parameter].range.clone(),
                    layout.parameters[found.parameter + 1].range.clone(),
                );
                Some(LoraBranch {
                    gradients: Some(LoraGradients {
                        a: gradient_offset + a.start,
                        b: gradient_offset + b.start,
                    }),
                    a: Matrix::F32(&values[a]),
                    b: Matrix::F32(&values[b]),
                    rank: layout.options.rank,
                    scale: layout.options.scale,
                    dropout: key.and_then(|key| layout.dropout(found, key)),
                })
            }
            Self::Loaded(adapter) => adapter.branch(module),
        }
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
