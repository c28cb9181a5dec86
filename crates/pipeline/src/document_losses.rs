//! Losses of many documents, several to a forward pass.

use synapse_nn::{Adapter, LanguageModel, MicroBatch, NnError};

/// Tokens of one forward pass.
const BATCH_TOKENS: usize = 2048;

/// Summed loss in nats and number of target tokens of each document, in order. A document is its tokens and labels.
pub(crate) fn document_losses<'d>(
    model: &(impl LanguageModel + ?Sized),
    documents: impl IntoIterator<Item = (&'d [u32], &'d [i64])>,
    adapter: Option<&Adapter>,
) -> Result<Vec<(f64, usize)>, NnError> {
    let mut losses = Vec::new();
    let mut batch = MicroBatch::default();
    for (tokens, labels) in documents {
        batch.push(tokens, labels, &[tokens.len() as u32]);
        if batch.tokens.len() >= BATCH_TOKENS {
            losses.extend(model.document_losses(&batch, adapter)?);
            batch = MicroBatch::default();
        }
    }
    if !batch.tokens.is_empty() {
        losses.extend(model.document_losses(&batch, adapter)?);
    }
    Ok(losses)
}
