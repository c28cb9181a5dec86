//! The recurrent state of a module: none when it processes whole documents in training, one per sequence in inference.

/// The states of all documents, if there are any.
pub(crate) type States<'a> = Option<Vec<&'a mut [f32]>>;

/// The state that a module's recurrences start from.
#[derive(Debug)]
pub(crate) enum RecurrentState<'a, 'b> {
    /// Training: every document starts with an empty state and the cells run chunk by chunk.
    FullSequence,
    /// Inference: one state per sequence, read and updated. The cells run token by token, so that a row's bits do not
    /// depend on how a prompt was split.
    Stateful(&'a mut [&'b mut [f32]]),
}

impl RecurrentState<'_, '_> {
    /// Splits every state in two: its first `at` values, and the rest. `None` without states.
    pub(crate) fn split(&mut self, at: usize) -> (States<'_>, States<'_>) {
        match self {
            Self::FullSequence => (None, None),
            Self::Stateful(states) => {
                let (first, second) = states.iter_mut().map(|state| state.split_at_mut(at)).unzip();
                (Some(first), Some(second))
            }
        }
    }
}

/// `σ(x)`.
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
