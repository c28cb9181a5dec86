//! A LoRA adapter in memory, ready to be applied at inference.

use std::{collections::BTreeMap, path::Path};

use half::bf16;
use synapse_checkpoint::{AdapterFolder, ModelConfig, ModelFiles};
use synapse_kernels::Precision;

use crate::{NnError, lora_branch::LoraBranch, tensor::Tensor};

/// One adapted module: `y += scale · (x·Aᵀ)·Bᵀ`.
#[derive(Debug, Clone)]
struct LoraWeights {
    /// `[rank, in]`
    a: Tensor,
    /// `[out, rank]`
    b: Tensor,
    rank: usize,
    /// `alpha / rank` (or `alpha / sqrt(rank)`).
    scale: f32,
}

/// All modules of one adapter, by their names.
#[derive(Debug, Clone, Default)]
pub struct Adapter {
    modules: BTreeMap<String, LoraWeights>,
}

impl Adapter {
    /// Reads a PEFT folder and checks every module against the base's shapes.
    ///
    /// # Errors
    /// A module that the base does not have, a wrong shape, or an unreadable folder.
    pub fn load(folder: &Path, config: &ModelConfig) -> Result<Self, NnError> {
        let files = AdapterFolder::open(folder)?;
        files.check_plain(config)?;
        Self::read(&files)
    }

    fn read(files: &AdapterFolder) -> Result<Self, NnError> {
        let mut adapter = Self::empty();
        for module in files.modules() {
            let weights = LoraWeights {
                a: Tensor::F32(files.read_a(&module.module)?),
                b: Tensor::F32(files.read_b(&module.module)?),
                rank: module.rank,
                scale: module.scale,
            };
            adapter.modules.insert(module.module.clone(), weights);
        }
        Ok(adapter)
    }

    /// As [`Adapter::load`], for inference over a base at a precision: in bf16 where products round the factors to it
    /// anyway, which halves the bytes that a generated token reads. The folder may hold copies of the base's tensors.
    ///
    /// # Errors
    /// As [`Adapter::load`], and a tensor stored whole that is not the base's.
    pub fn load_for_inference(folder: &Path, base: &ModelFiles, precision: Precision) -> Result<Self, NnError> {
        let files = AdapterFolder::open(folder)?;
        files.check_against(base)?;
        let adapter = Self::read(&files)?;
        Ok(match precision {
            Precision::Bf16 => adapter.rounded(),
            Precision::F32 => adapter,
        })
    }

    fn rounded(mut self) -> Self {
        for module in self.modules.values_mut() {
            for factor in [&mut module.a, &mut module.b] {
                if let Tensor::F32(values) = factor {
                    *factor = Tensor::Bf16(values.iter().copied().map(bf16::from_f32).collect());
                }
            }
        }
        self
    }

    /// An adapter that changes nothing.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// The branch of a module by its full name, if the adapter has one for it.
    pub(crate) fn branch(&self, module: &str) -> Option<LoraBranch<'_>> {
        self.modules.get(module).map(|module| LoraBranch {
            a: module.a.matrix(&[]),
            b: module.b.matrix(&[]),
            rank: module.rank,
            scale: module.scale,
            dropout: None,
            gradients: None,
        })
    }
}
