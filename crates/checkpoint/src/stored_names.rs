//! What a checkpoint calls its tensors, by the names of the architecture. The two differ where a training wrapper's prefix
//! was saved with the names, or where the decoder was saved without its head's class around it.

use std::collections::BTreeMap;

use crate::adapter_names::without_wrappers;
use crate::error::{CheckpointError, Result};
use crate::tensors::TensorFiles;

/// The decoder's name within the model with a head.
const DECODER: &str = "model.";

/// Stored names by the architecture's names.
///
/// # Errors
/// Two tensors have one name of the architecture.
pub(crate) fn by_architecture(files: &TensorFiles) -> Result<BTreeMap<String, String>> {
    let unwrapped: Vec<(String, &str)> = files.names().map(|name| (without_wrappers(name), name)).collect();
    let bare = !unwrapped.iter().any(|(name, _)| name.starts_with(DECODER))
        && unwrapped.iter().any(|(name, _)| name.starts_with("layers."));
    let mut stored: BTreeMap<String, String> = BTreeMap::new();
    for (name, own) in unwrapped {
        let name = if bare && !name.starts_with("lm_head.") {
            format!("{DECODER}{name}")
        } else {
            name
        };
        if let Some(other) = stored.insert(name, own.to_owned()) {
            let path = files.path_of(own).unwrap_or(std::path::Path::new("")).to_owned();
            return Err(CheckpointError::tensor(
                &path,
                own,
                format!("says the same as `{other}`"),
            ));
        }
    }
    Ok(stored)
}
