//! The LoRA branch of one linear layer, as forward and backward passes use it.

use synapse_kernels::{Matrix, elementwise::Dropout};

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
