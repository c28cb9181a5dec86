//! What callers say and learn about adapters: where they are loaded from, what to load, and what is loaded.

use std::path::Path;
use std::sync::Arc;

use synapse_nn::Adapter;

/// Loads adapters from folders while the engine runs.
pub trait AdapterSource: Send + Sync {
    /// Identifies the content of a folder, for example a hash over its files.
    ///
    /// # Errors
    /// Why the folder does not hold an adapter, for the caller.
    fn content_hash(&self, folder: &Path) -> std::result::Result<String, String>;

    /// Reads a folder.
    ///
    /// # Errors
    /// Why the folder does not hold an adapter of this model, for the caller.
    fn load(&self, folder: &Path) -> std::result::Result<Arc<Adapter>, String>;
}

/// A loaded adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterInfo {
    /// Its name in requests.
    pub name: String,
    /// The hash of its content from the source; `None` for an adapter that was passed to the engine in memory.
    pub content_hash: Option<String>,
}

/// A request to load an adapter.
#[derive(Debug, Clone, Copy)]
pub struct LoadAdapter<'a> {
    /// Its name in requests.
    pub name: &'a str,
    /// The folder to read.
    pub folder: &'a Path,
    /// The content hash that the name must currently have; `None` replaces any content.
    pub expected: Option<&'a str>,
    /// The maximum number of loaded adapters, including this one.
    pub limit: usize,
}
