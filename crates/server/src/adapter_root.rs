//! The folder that adapters may be loaded from while the server runs.

use std::path::{Path, PathBuf};

use crate::error::ApiError;

/// Where adapters may be loaded from while the server runs, and how many there may be.
#[derive(Debug, Clone)]
pub struct AdapterRoot {
    folder: PathBuf,
    /// The maximum number of loaded adapters.
    pub(crate) limit: usize,
}

impl AdapterRoot {
    /// Adapters below `folder`; at most `limit` are loaded, including those the server started with.
    ///
    /// # Errors
    /// The folder does not exist.
    pub fn new(folder: &Path, limit: usize) -> std::io::Result<Self> {
        let folder = folder.canonicalize()?;
        Ok(Self { folder, limit })
    }

    /// The folder that `path` names, which must lie below the root.
    pub(crate) fn resolve(&self, path: &str) -> Result<PathBuf, ApiError> {
        // The same error for a missing folder and one outside, so that paths outside cannot be probed.
        let outside = || ApiError::field("path", "is not a folder below the adapters' folder");
        let folder = self.folder.join(path).canonicalize().map_err(|_| outside())?;
        if folder == self.folder || !folder.starts_with(&self.folder) {
            return Err(outside());
        }
        for entry in folder.read_dir().map_err(|_| outside())? {
            let target = entry.and_then(|entry| entry.path().canonicalize());
            if !target.is_ok_and(|target| target.starts_with(&self.folder)) {
                return Err(ApiError::field(
                    "path",
                    "holds a link that leads out of the adapters' folder",
                ));
            }
        }
        Ok(folder)
    }
}
