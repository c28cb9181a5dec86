//! The adapter over a model's weights in one pass: one that is being trained, or one that was loaded.

use synapse_kernels::Matrix;

use crate::{
    Adapter, LoraLayout,
    lora_branch::{LoraBranch, LoraGradients},
};

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
                    layout.parameters()[found.parameter].range.clone(),
                    layout.parameters()[found.parameter + 1].range.clone(),
                );
                Some(LoraBranch {
                    gradients: Some(LoraGradients {
                        a: gradient_offset + a.start,
                        b: gradient_offset + b.start,
                    }),
                    a: Matrix::F32(&values[a]),
                    b: Matrix::F32(&values[b]),
                    rank: layout.options().rank,
                    scale: layout.options().scale,
                    dropout: key.and_then(|key| layout.dropout(found, key)),
                })
            }
            Self::Loaded(adapter) => adapter.branch(module),
        }
    }
}
