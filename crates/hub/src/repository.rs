//! A repository's paths in the cache and on the hub, in the layout that all Hugging Face tools share:
//! `models--org--name/{blobs,refs,snapshots}`. Layout and addresses are hf-hub's; publishing is done here, because a
//! file must appear under its final name completely or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use crate::error::{HubError, Result, io};

/// A model or dataset at one revision.
#[derive(Debug)]
pub(crate) struct Repository {
    repo: Repo,
    cache: Cache,
    /// `organization/name`.
    pub(crate) id: String,
    kind: RepoType,
}

impl Repository {
    /// A repository of the cache folder `cache`; the default branch when no revision is given.
    pub(crate) fn new(kind: RepoType, id: &str, revision: Option<&str>, cache: &Path) -> Result<Self> {
        let plain = |part: &str| {
            !part.is_empty()
                && !part.contains("--")
                && !part.starts_with('.')
                && part
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        };
        let valid = id
            .split_once('/')
            .is_some_and(|(organization, name)| plain(organization) && plain(name));
        if !valid {
            return Err(HubError::BadId { id: id.to_owned() });
        }
        let revision = revision.unwrap_or("main");
        let safe = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !revision.split('/').all(safe) || revision.contains(['\\', '?', '#', '%']) {
            return Err(HubError::NoRevision {
                repo: id.to_owned(),
                revision: revision.to_owned(),
            });
        }
        let repo = Repo::with_revision(id.to_owned(), kind, revision.to_owned());
        Ok(Self {
            repo,
            cache: Cache::new(cache.to_owned()),
            id: id.to_owned(),
            kind,
        })
    }

    /// `model openai/x` or `dataset openai/x`, for messages.
    pub(crate) fn describe(&self) -> String {
        match self.kind {
            RepoType::Dataset => format!("dataset {}", self.id),
            RepoType::Model | RepoType::Space => format!("model {}", self.id),
        }
    }

    pub(crate) fn revision(&self) -> &str {
        self.repo.revision()
    }

    /// Path of the repository's description below the endpoint.
    pub(crate) fn api_path(&self) -> String {
        format!("api/{}", self.repo.api_url())
    }

    /// Path of the repository's page below the endpoint.
    pub(crate) fn page_path(&self) -> String {
        self.repo.url()
    }

    /// Path of a file below the endpoint.
    pub(crate) fn file_path(&self, commit: &str, file: &str) -> String {
        format!("{}/resolve/{commit}/{}", self.repo.url(), percent_encode(file))
    }

    /// The repository's folder in the cache.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache.path().join(self.repo.folder_name())
    }

    /// The folder that shows the files of one commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// The path of the blob with this etag.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).blob_path(etag)
    }

    /// The lock that all tools take before they write that blob.
    pub(crate) fn lock_file(&self, etag: &str) -> PathBuf {
        self.cache
            .path()
            .join(".locks")
            .join(self.repo.folder_name())
            .join(format!("{etag}.lock"))
    }

    /// The partial file with this etag; blobs, which are complete, lie elsewhere.
    pub(crate) fn partial(&self, etag: &str) -> PathBuf {
        self.folder().join(".parts").join(format!("{etag}.part"))
    }

    /// Records a file's etag and length, so that its partial file is found offline.
    pub(crate) fn partial_metadata(&self, commit: &str, file: &str) -> PathBuf {
        let name = format!("{}.json", file.replace('/', "--"));
        self.folder().join(".parts").join(commit).join(name)
    }

    /// The commit this revision pointed to when the hub was last asked; a full commit stands for itself.
    pub(crate) fn cached_commit(&self) -> Option<String> {
        let revision = self.repo.revision();
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.folder().join("refs").join(revision)).ok()?;
        let commit = commit.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Records which commit this revision points to.
    pub(crate) fn write_ref(&self, commit: &str) -> Result<()> {
        if self.repo.revision() == commit {
            return Ok(());
        }
        write_atomically(
            &self.folder().join("refs").join(self.repo.revision()),
            commit.as_bytes(),
        )
    }

    /// Records a commit's file list, so that globs match the same files offline.
    fn listing_file(&self, commit: &str) -> PathBuf {
        self.folder().join(".listing").join(format!("{commit}.json"))
    }

    pub(crate) fn write_listing(&self, commit: &str, files: &[String]) -> Result<()> {
        let path = self.listing_file(commit);
        if path.is_file() {
            return Ok(());
        }
        let text = serde_json::to_vec(files).map_err(|error| io(&path, "writing")(error.into()))?;
        write_atomically(&path, &text)
    }

    /// The files of a commit: the recorded list if there is one, else the fetched files.
    pub(crate) fn cached_listing(&self, commit: &str) -> Vec<String> {
        let noted = fs::read(self.listing_file(commit)).ok();
        if let Some(files) = noted.and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok()) {
            return files;
        }
        let mut files = Vec::new();
        collect(&self.snapshot(commit), "", &mut files);
        files.sort();
        files
    }

    /// The file in the snapshot, if present.
    pub(crate) fn cached_file(&self, commit: &str, file: &str) -> Option<PathBuf> {
        let path = self.snapshot(commit).join(file);
        path.is_file().then_some(path)
    }

    /// Links a blob into the snapshot of a commit.
    pub(crate) fn publish(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(file);
        let folder = path.parent().unwrap_or(&path).to_owned();
        fs::create_dir_all(&folder).map_err(io(&folder, "making this folder"))?;
        let ups = 2 + file.matches('/').count();
        let target: PathBuf = std::iter::repeat_n("..", ups)
            .collect::<PathBuf>()
            .join("blobs")
            .join(etag);
        let staged = staging_path(&path);
        let _ = fs::remove_file(&staged);
        link(&staged, &target, &self.blob(etag)).map_err(io(&staged, "linking"))?;
        fs::rename(&staged, &path).map_err(io(&path, "renaming"))?;
        Ok(path)
    }
}

/// Whether a revision is a full commit hash.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a path from the hub stays inside its folder.
pub(crate) fn is_safe_path(file: &str) -> bool {
    !file.contains(['\\', '\0'])
        && file
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(unix)]
fn link(path: &Path, target: &Path, _blob: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn link(path: &Path, _target: &Path, blob: &Path) -> std::io::Result<()> {
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(drop))
}

/// A temporary name, unique to this thread, in the same folder.
fn staging_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(
        ".{}.{:?}.partial",
        std::process::id(),
        std::thread::current().id()
    ));
    path.with_file_name(name)
}

pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(io(folder, "making this folder"))?;
    let staged = staging_path(path);
    let write = || {
        let mut file = fs::File::create(&staged)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(io(&staged, "writing"))?;
    fs::rename(&staged, path).map_err(io(path, "renaming"))
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files);
        } else if path.is_file() && !name.ends_with(".partial") {
            files.push(format!("{prefix}{name}"));
        }
    }
}

/// Percent-encodes a URL's path; slashes stay.
fn percent_encode(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    path.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_paths_cannot_leave_the_cache() {
        let repository = |id: &str| Repository::new(RepoType::Model, id, None, Path::new("/c"));
        for bad in ["", "a", "a/b/c", "../b", "a/..", "a/b c", "/b", "a--x/b"] {
            assert!(repository(bad).is_err(), "{bad}");
        }
        assert!(Repository::new(RepoType::Model, "a/b", Some("../../x"), Path::new("/c")).is_err());
        assert!(
            is_safe_path("data/train.parquet") && !is_safe_path("../x") && !is_safe_path("/x") && !is_safe_path("a//b")
        );
        assert_eq!(percent_encode("data/a b#1.json"), "data/a%20b%231.json");
    }
}
