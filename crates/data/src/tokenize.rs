//! Rows to documents: token ids with a loss mask, fitted to the length of a packed row.

use rayon::prelude::*;
use synapse_recipe::{LossOn, Overlong};
use synapse_tokenizer::{ChatTokenizer, Encoding, Message, TokenizerError};

use crate::Result;
use crate::pack::Document;
use crate::row::{Dialogue, Row};

/// Rows tokenized between two progress reports.
const CHUNK: usize = 2048;

/// The result of tokenizing one row.
#[derive(Debug)]
pub(crate) enum Outcome {
    Document(Document),
    /// The template refuses this conversation; the reason.
    Refused(String),
    /// No token is a training target.
    NoTargets,
}

/// Tokenizes rows on all cores; the order of the result is that of the rows.
pub(crate) fn tokenize(
    chat: &ChatTokenizer,
    rows: &[&Row],
    loss_on: LossOn,
    progress: &dyn Fn(usize),
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::with_capacity(rows.len());
    for chunk in rows.chunks(CHUNK) {
        let part: Vec<Outcome> = chunk
            .par_iter()
            .map(|row| one(chat, row, loss_on))
            .collect::<Result<_>>()?;
        outcomes.extend(part);
        progress(outcomes.len());
    }
    Ok(outcomes)
}

fn one(chat: &ChatTokenizer, row: &Row, loss_on: LossOn) -> Result<Outcome> {
    let encoded = match (row, loss_on) {
        (Row::Document(text), _) => chat.encode_document(text),
        (Row::Chat(Dialogue { messages, tools, .. }), LossOn::Assistant) => chat.encode_training(messages, tools),
        (Row::Chat(Dialogue { messages, tools, .. }), LossOn::All) => {
            // All tokens are targets, so a template in which answers cannot be found may be used.
            let without_targets: Vec<Message> = messages
                .iter()
                .map(|message| Message {
                    train: false,
                    ..message.clone()
                })
                .collect();
            chat.encode_training(&without_targets, tools).map(|encoded| Encoding {
                loss_mask: vec![true; encoded.ids.len()],
                ..encoded
            })
        }
    };
    match encoded {
        Ok(Encoding { ids, loss_mask }) => {
            let document = Document { ids, loss_mask };
            Ok(if document.target_tokens() == 0 {
                Outcome::NoTargets
            } else {
                Outcome::Document(document)
            })
        }
        Err(error @ (TokenizerError::Template(_) | TokenizerError::Message { .. } | TokenizerError::Tools(_))) => {
            Ok(Outcome::Refused(error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Applies the policy for documents longer than a row. Returns the remaining chunks, each with the index of its first
/// token, and the number of tokens lost.
pub(crate) fn fit(document: Document, length: usize, policy: Overlong) -> (Vec<(usize, Document)>, u64) {
    let tokens = document.ids.len();
    if tokens <= length {
        return (vec![(0, document)], 0);
    }
    let count = match policy {
        Overlong::Drop => 0,
        Overlong::Truncate => 1,
        Overlong::Split => tokens.div_ceil(length),
    };
    let chunks = document
        .ids
        .chunks(length)
        .zip(document.loss_mask.chunks(length))
        .take(count);
    let kept: Vec<(usize, Document)> = (0..)
        .step_by(length)
        .zip(chunks)
        .map(|(from, (ids, loss_mask))| {
            let (ids, loss_mask) = (ids.to_vec(), loss_mask.to_vec());
            (from, Document { ids, loss_mask })
        })
        .filter(|(_, chunk)| chunk.target_tokens() > 0)
        .collect();
    let left: usize = kept.iter().map(|(_, chunk)| chunk.ids.len()).sum();
    (kept, (tokens - left) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_counts_what_it_loses() {
        let mut loss_mask = vec![false; 10];
        loss_mask[6..].fill(true);
        let document = Document {
            ids: (0..10).collect(),
            loss_mask,
        };
        let lengths = |(chunks, lost): (Vec<(usize, Document)>, u64)| {
            (
                chunks.iter().map(|(_, chunk)| chunk.ids.len()).collect::<Vec<_>>(),
                lost,
            )
        };
        assert_eq!(lengths(fit(document.clone(), 10, Overlong::Drop)), (vec![10], 0));
        assert_eq!(lengths(fit(document.clone(), 9, Overlong::Drop)), (vec![], 10));
        assert_eq!(lengths(fit(document.clone(), 8, Overlong::Truncate)), (vec![8], 2));
        assert_eq!(lengths(fit(document.clone(), 6, Overlong::Truncate)), (vec![], 10));
        assert_eq!(
            fit(document.clone(), 4, Overlong::Split).0[0].0,
            4,
            "the first chunk has no targets"
        );
        assert_eq!(lengths(fit(document, 4, Overlong::Split)), (vec![4, 2], 4));
    }
}
