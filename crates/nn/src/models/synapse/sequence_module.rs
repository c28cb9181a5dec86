//! The contract of a module whose rows depend on earlier rows of their document: the language modules and the memory.

use super::{linear::Weights, recurrent_state::RecurrentState};

/// The rows that a module sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModuleInput<'a> {
    /// `[t, hidden]`
    pub(crate) u: &'a [f32],
    /// Rows of each document; they sum to `t`.
    pub(crate) lengths: &'a [usize],
}

/// What a module's backward pass adds to.
#[derive(Debug)]
pub(crate) struct ModuleGradients<'a> {
    /// The gradient of the input, `[t, hidden]`.
    pub(crate) du: &'a mut [f32],
    /// The gradients of all trainable values.
    pub(crate) parameters: &'a mut [f32],
}

/// A module with a recurrence over each document.
pub(crate) trait SequenceModule {
    /// What the forward pass saves for the backward pass.
    type Saved;

    /// Values of one document's state.
    fn state_len(&self) -> usize;

    /// `u [t, hidden]` → `y [t, hidden]`.
    fn forward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        state: RecurrentState<'_, '_>,
    ) -> (Vec<f32>, Self::Saved);

    /// From the gradient `dy [t, hidden]` of the output. What was saved is overwritten on the way.
    fn backward(
        &self,
        weights: Weights<'_>,
        input: ModuleInput<'_>,
        saved: &mut Self::Saved,
        dy: &[f32],
        gradients: ModuleGradients<'_>,
    );
}

/// What a cell saved in a forward pass over full sequences.
///
/// # Panics
/// If the forward pass carried states: no gradient is taken in inference.
pub(crate) fn of_full_sequence<T>(saved: Option<&T>) -> &T {
    match saved {
        Some(saved) => saved,
        None => unreachable!("gradients are taken of full sequences"),
    }
}
