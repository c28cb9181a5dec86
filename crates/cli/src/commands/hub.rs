//! `pull`: downloads a model from the hub.

use std::path::Path;

use synapse_checkpoint::Staged;
use synapse_hub::Hub;
use synapse_pipeline::Downloads;

use crate::{Outcome, commands::print, terminal::Terminal};

/// Downloads a snapshot and prints its folder.
pub(crate) fn pull(id: &str, revision: Option<&str>, out: Option<&Path>) -> Outcome {
    let terminal = Terminal::new();
    let snapshot = Hub::from_env(false)?.model(id, revision, &Downloads::new(&terminal, id))?;
    let Some(out) = out else {
        return print(&snapshot.display().to_string());
    };
    let staged = Staged::beside(out)?;
    for entry in std::fs::read_dir(&snapshot)? {
        let entry = entry?;
        std::fs::copy(entry.path(), staged.path().join(entry.file_name()))?;
    }
    staged.publish()?;
    print(&out.display().to_string())
}
