//! Where the models are that the user names: local folders, GGUF files or folders of them, or repositories on the hub. A path is never
//! looked up on the network.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synapse_checkpoint::DType;
use synapse_checkpoint::gguf::{gguf_at, import_gguf_as};
use synapse_hub::{DownloadProgress, Hub};

/// Finds models, asking the hub only for hub ids.
pub(crate) struct ModelSource<'a> {
    offline: bool,
    progress: &'a dyn DownloadProgress,
    /// Snapshot folders and the ids they were asked for by.
    fetched: RefCell<BTreeMap<PathBuf, String>>,
    /// GGUF files as folders, for as long as the command runs.
    unpacked: RefCell<Vec<PathBuf>>,
}

impl Drop for ModelSource<'_> {
    fn drop(&mut self) {
        for folder in self.unpacked.borrow().iter() {
            // A folder that cannot be removed is in the system's temporary folder.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl<'a> ModelSource<'a> {
    pub(crate) fn new(offline: bool, progress: &'a dyn DownloadProgress) -> Self {
        Self {
            offline,
            progress,
            fetched: RefCell::default(),
            unpacked: RefCell::default(),
        }
    }

    /// The folder of a model: `text` itself when it exists, else the hub's snapshot when it is a hub id, with
    /// `revision` or the one behind an `@`.
    ///
    /// # Errors
    /// Says what was looked for, as a message for the user.
    pub(crate) fn model(&self, text: &str, revision: Option<&str>) -> Result<PathBuf, String> {
        let path = Path::new(text);
        if path.is_file() && !text.ends_with(".gguf") {
            return Err(format!("{text} is a file, not a model folder"));
        }
        if let Some(gguf) = gguf_at(path).map_err(|error| error.to_string())? {
            return self.unpack(&gguf);
        }
        if path.is_dir() {
            return Ok(path.to_owned());
        }
        let (id, revision) = match text.split_once('@') {
            Some((id, own)) => (id, Some(own)),
            None => (text, revision),
        };
        if !is_hub_id(id) {
            return Err(format!("{text} does not exist"));
        }
        let folder = Hub::from_env(self.offline)
            .and_then(|hub| hub.model(id, revision, self.progress))
            .map_err(|error| format!("{text} is not a local folder, and as a hub id: {error}"))?;
        let folder = tidy(&folder);
        let reference_of = revision.map_or_else(|| id.to_owned(), |revision| format!("{id}@{revision}"));
        self.fetched.borrow_mut().insert(folder.clone(), reference_of);
        Ok(folder)
    }

    /// A GGUF file as a folder of exact f32 weights, in the temporary folder.
    fn unpack(&self, gguf: &Path) -> Result<PathBuf, String> {
        let number = self.unpacked.borrow().len();
        let folder = std::env::temp_dir().join(format!("synapse-merge-{}-{number}", std::process::id()));
        import_gguf_as(gguf, &folder, DType::F32).map_err(|error| error.to_string())?;
        self.unpacked.borrow_mut().push(folder.clone());
        self.fetched
            .borrow_mut()
            .insert(folder.clone(), gguf.display().to_string());
        Ok(folder)
    }

    /// The names of folders that were downloaded or unpacked.
    pub(crate) fn aliases(&self) -> BTreeMap<PathBuf, String> {
        self.fetched.borrow().clone()
    }
}

/// `organization/name`, when no folder `organization` is here that would make it a mistyped path.
fn is_hub_id(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '~'])
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(organization, name)| part(organization) && part(name) && !Path::new(organization).exists())
}

/// A path relative to the working directory, if it is below it.
pub(crate) fn tidy(path: &Path) -> PathBuf {
    match std::env::current_dir()
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned))
    {
        Some(relative) if !relative.as_os_str().is_empty() => relative,
        _ => path.to_owned(),
    }
}

/// The last part of a path or hub id.
pub(crate) fn folder_name(location: &str) -> &str {
    location.trim_end_matches('/').rsplit('/').next().unwrap_or(location)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_reach_the_hub() {
        assert!(is_hub_id("Qwen/Qwen2.5-3B-Instruct"));
        for path in [
            "model",
            "./a/b",
            "../b",
            "/a/b",
            "a/b/c",
            "~/b",
            "a/",
            "/b",
            "a b/c",
            ".hidden/x",
            "src/nothing-here",
        ] {
            assert!(!is_hub_id(path), "{path}");
        }
    }
}
