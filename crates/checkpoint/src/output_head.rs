//! Whether a model's output head is its embedding. It is decided here, once, when a folder, a file or the inputs of a merge
//! are opened; training, merging, export and serving follow [`ModelConfig::tie_word_embeddings`] of what was opened.
//!
//! | found | head |
//! |---|---|
//! | config.json ties, and no `lm_head.weight` is stored, or one that equals the embedding | the embedding |
//! | config.json ties, and another `lm_head.weight` is stored | its own, as in transformers 5; version 4 dropped it |
//! | config.json ties, and only `lm_head.weight` is stored | the embedding, which is then that tensor |
//! | config.json does not tie | its own, which must be stored |
//! | a GGUF file | its own where the file holds `output.weight` |
//! | a merge | the embedding where it is that of the base and no input separates the two, see [`HeadChange`] |
//!
//! A folder that is written says what was decided: its config.json ties only if its head is the embedding.

use std::collections::BTreeMap;

use crate::compare::same_values;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::tensors::TensorFiles;

/// The embedding's tensor.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The output head's tensor.
pub const HEAD: &str = "lm_head.weight";

/// What an input of a merge does to a head that is tied to the embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadChange {
    /// Nothing, or the same as to the embedding: a tied checkpoint; an adapter that adapts neither, or both as one
    /// (`ensure_weight_tying`); a folder with copies of the base's weights, which PEFT loads into the one tensor.
    Follows,
    /// It separates the two: a checkpoint with a head of its own; an adapter of one of the two, or of each by itself. PEFT
    /// leaves the other one as it is.
    Separates,
}

/// Whether the head of a merge is its embedding.
#[must_use]
pub fn merge_ties(base: &ModelConfig, inputs: impl IntoIterator<Item = HeadChange>) -> bool {
    base.tie_word_embeddings && inputs.into_iter().all(|change| change == HeadChange::Follows)
}

/// Decides it for a folder's tensors. `stored` gives their names by what the architecture calls them.
pub(crate) fn settle(
    config: &mut ModelConfig,
    files: &TensorFiles,
    stored: &mut BTreeMap<String, String>,
) -> Result<()> {
    if !config.tie_word_embeddings {
        return Ok(());
    }
    match (stored.get(EMBEDDING), stored.get(HEAD)) {
        (Some(embedding), Some(head)) => {
            config.tie_word_embeddings = same_values((files, embedding), (files, head))?;
        }
        (None, Some(head)) => {
            let head = head.clone();
            stored.insert(EMBEDDING.to_owned(), head);
        }
        (_, None) => {}
    }
    Ok(())
}
