//! A LoRA adapter in memory, ready to be applied at inference.

use std::{collections::BTreeMap, path::Path};

use half::bf16;
use synapse_checkpoint::{AdapterFolder, ModelConfig};
use synapse_kernels::{Matrix, Precision};

use crate::{NnError, tensor::Tensor};

/// One adapted module: `y += scale * B (A x)`.
#[derive(Debug, Clone)]
pub(crate) struct AdapterLinear {
    /// `[rank, in]`, row-major.
    pub(crate) a: Tensor,
    /// `[out, rank]`, row-major.
    pub(crate) b: Tensor,
    /// Inner dimension.
    pub(crate) rank: usize,
    /// `alpha / rank` (or `alpha / sqrt(rank)`).
    pub(crate) scale: f32,
}

/// All modules of one adapter.
#[derive(Debug, Clone, Default)]
pub struct Adapter {
    /// Of a decoder: per layer, in the order of [`ModelConfig::linear_modules`].
    pub(crate) layers: Vec<[Option<AdapterLinear>; 7]>,
    /// Of another architecture: by the modules' names.
    named: BTreeMap<String, AdapterLinear>,
}

/// One module of an adapter: `y += scale · (x·Aᵀ)·Bᵀ`.
#[derive(Debug, Clone, Copy)]
pub struct AdapterModule<'a> {
    /// `[rank, in]`
    pub a: Matrix<'a>,
    /// `[out, rank]`
    pub b: Matrix<'a>,
    /// Inner dimension.
    pub rank: usize,
    /// `alpha / rank` (or `alpha / sqrt(rank)`).
    pub scale: f32,
}

impl Adapter {
    /// Reads a PEFT folder and checks every module against the base's shapes.
    ///
    /// # Errors
    /// A module that the base does not have, a wrong shape, or an unreadable folder.
    pub fn load(folder: &Path, config: &ModelConfig) -> Result<Self, NnError> {
        let files = AdapterFolder::open(folder)?;
        files.check_against(config)?;
        let linear = |module: &str, rank, scale| -> Result<AdapterLinear, NnError> {
            Ok(AdapterLinear {
                a: Tensor::F32(files.read_a(module)?),
                b: Tensor::F32(files.read_b(module)?),
                rank,
                scale,
            })
        };
        let mut adapter = Self::empty();
        if !config.has_attention() {
            for module in files.modules() {
                let own = linear(&module.module, module.rank, module.scale)?;
                adapter.named.insert(module.module.clone(), own);
            }
            return Ok(adapter);
        }
        adapter.layers = vec![[const { None }; 7]; config.num_hidden_layers];
        for module in files.modules() {
            for (layer, linears) in adapter.layers.iter_mut().enumerate() {
                for (slot, (suffix, _, _)) in config.linear_modules().iter().enumerate() {
                    if module.module == format!("model.layers.{layer}.{suffix}") {
                        linears[slot] = Some(linear(&module.module, module.rank, module.scale)?);
                    }
                }
            }
        }
        Ok(adapter)
    }

    /// As [`Adapter::load`], for generating at a precision: in bf16 where products round the factors to it anyway,
    /// which is half the bytes that a generated token reads.
    ///
    /// # Errors
    /// As [`Adapter::load`].
    pub fn load_to_generate(folder: &Path, config: &ModelConfig, precision: Precision) -> Result<Self, NnError> {
        let adapter = Self::load(folder, config)?;
        Ok(match precision {
            Precision::Bf16 => adapter.rounded(),
            Precision::F32 => adapter,
        })
    }

    fn rounded(mut self) -> Self {
        for module in self
            .layers
            .iter_mut()
            .flatten()
            .flatten()
            .chain(self.named.values_mut())
        {
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
        self.layers.is_empty() && self.named.is_empty()
    }

    /// A module by its name, of an adapter over another architecture than a decoder's.
    pub fn module(&self, name: &str) -> Option<AdapterModule<'_>> {
        self.named.get(name).map(|module| AdapterModule {
            a: module.a.matrix(&[]),
            b: module.b.matrix(&[]),
            rank: module.rank,
            scale: module.scale,
        })
    }

    /// The adapted module, if this adapter touches it.
    pub(crate) fn linear(&self, layer: usize, slot: usize) -> Option<&AdapterLinear> {
        self.layers.get(layer)?[slot].as_ref()
    }
}
