//! How a module goes over its rows: documents from their beginning, or token by token with a state carried on.

/// The states of all documents, where there are any.
pub(crate) type States<'a> = Option<Vec<&'a mut [f32]>>;

/// What a module's recurrences start from.
#[derive(Debug)]
pub(crate) enum RecurrentState<'a, 'b> {
    /// Every document begins at its first row and nothing is kept: training. Cells go in chunks.
    FullSequence,
    /// A state for each document, read and left behind: serving. Cells go token by token, so that a row's bits do
    /// not depend on how a prompt was cut.
    Stateful(&'a mut [&'b mut [f32]]),
}

impl RecurrentState<'_, '_> {
    /// The states cut in two: the first `at` values of each, and the rest. `None` where there are none.
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
