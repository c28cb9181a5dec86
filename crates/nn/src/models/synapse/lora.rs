//! LoRA over a Synapse model: specialists as adapters, trained over frozen weights or read from a PEFT folder.
//!
//! Any module whose name ends in `_proj` can be adapted; a target such as `q_proj` means all modules of that name, so
//! the usual seven reach the language module, the experts and the memory, and leave the thalamus as it is.

use std::{collections::BTreeMap, ops::Range};

use crate::{Adapter, LoraOptions, NnError, Parameter};
use synapse_checkpoint::ModelConfig;
use synapse_kernels::{
    Matrix,
    elementwise::Dropout,
    gemm::{Left, Right, Term},
    random::Stream,
};

use crate::models::synapse::linear::Weights;

/// The adapted modules and where their factors lie in the flat buffer of what is trained.
#[derive(Debug, Clone)]
pub(crate) struct LoraLayout {
    pub(crate) options: LoraOptions,
    /// Module by module in file order, A before B.
    pub(crate) parameters: Vec<Parameter>,
    modules: BTreeMap<String, Place>,
    /// Where the buffer begins in the gradients' buffer: behind the frozen weights.
    pub(crate) offset: usize,
}

#[derive(Debug, Clone)]
struct Place {
    a: Range<usize>,
    b: Range<usize>,
    /// Its number, which keys its dropout mask.
    index: u64,
}

impl LoraLayout {
    /// # Errors
    /// A target that no module of the model is called by.
    pub(crate) fn new(config: &ModelConfig, options: LoraOptions, offset: usize) -> Result<Self, NnError> {
        let linear = config.adaptable_modules();
        let suffix = |module: &str| module.rsplit('.').next().unwrap_or(module).to_owned();
        if let Some(target) = options
            .targets
            .iter()
            .find(|target| !linear.iter().any(|(module, ..)| suffix(module) == **target))
        {
            let mut known: Vec<String> = linear.iter().map(|(module, ..)| suffix(module)).collect();
            known.sort_unstable();
            known.dedup();
            return Err(NnError::Unsupported {
                what: format!("LoRA target `{target}`"),
                hint: format!("this model has {}", known.join(", ")),
            });
        }
        let (mut parameters, mut modules): (Vec<Parameter>, _) = (Vec::new(), BTreeMap::new());
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
        for (index, (module, output, input)) in linear.into_iter().enumerate() {
            if options.targets.contains(&suffix(&module)) {
                let a = place(format!("{module}.lora_A"), [options.rank, input]);
                let b = place(format!("{module}.lora_B"), [output, options.rank]);
                let index = index as u64;
                modules.insert(module, Place { a, b, index });
            }
        }
        Ok(Self {
            options,
            parameters,
            modules,
            offset,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range.end)
    }
}

/// An adapter over the weights of a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Adapted<'a> {
    /// One that is trained: its layout, its values, and the key of its dropout masks where there is dropout.
    Trained(&'a LoraLayout, &'a [f32], Option<[u64; 3]>),
    /// One that was read.
    Served(&'a Adapter),
}

/// The branch of one module: `y += scale · (M⊙x)·Aᵀ·Bᵀ`.
#[derive(Debug, Clone)]
pub(crate) struct Branch<'a> {
    /// `[rank, input]`
    pub(crate) a: Matrix<'a>,
    /// `[output, rank]`
    pub(crate) b: Matrix<'a>,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    pub(crate) dropout: Option<Dropout>,
    /// Where the gradients of A and B go.
    pub(crate) places: Option<(Range<usize>, Range<usize>)>,
}

impl<'a> Adapted<'a> {
    pub(crate) fn branch(self, module: &str) -> Option<Branch<'a>> {
        match self {
            Self::Trained(layout, values, key) => {
                let Place { a, b, index } = layout.modules.get(module)?;
                let options = &layout.options;
                let dropout = key
                    .filter(|_| options.dropout > 0.0)
                    .map(|[seed, step, micro]| Dropout {
                        stream: Stream::new(&[seed, step, micro, *index]),
                        probability: options.dropout,
                    });
                let shifted = |range: &Range<usize>| layout.offset + range.start..layout.offset + range.end;
                Some(Branch {
                    a: Matrix::F32(&values[a.clone()]),
                    b: Matrix::F32(&values[b.clone()]),
                    rank: options.rank,
                    scale: options.scale,
                    dropout,
                    places: Some((shifted(a), shifted(b))),
                })
            }
            Self::Served(adapter) => {
                let found = adapter.module(module)?;
                Some(Branch {
                    a: found.a,
                    b: found.b,
                    rank: found.rank,
                    scale: found.scale,
                    dropout: None,
                    places: None,
                })
            }
        }
    }
}

impl Branch<'_> {
    /// `H = (M⊙x)·Aᵀ`, `[t, rank]`.
    pub(crate) fn hidden(&self, weights: Weights<'_>, x: &[f32], input: usize) -> Vec<f32> {
        let masked = self.masked(x);
        let mut hidden = vec![0.0; x.len() / input * self.rank];
        let term = Term {
            left: Left::rows(masked.as_deref().unwrap_or(x), input),
            right: Right::transposed(self.a, input),
            k: input,
            scale: 1.0,
        };
        weights.sum(&[term], &mut hidden, self.rank);
        hidden
    }

    /// `M⊙x`, where there is a mask.
    pub(crate) fn masked(&self, x: &[f32]) -> Option<Vec<f32>> {
        self.dropout.map(|dropout| {
            let mut y = vec![0.0; x.len()];
            dropout.apply(x, (&mut y).into());
            y
        })
    }
}
