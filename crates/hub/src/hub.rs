//! What other crates use: a model folder or dataset files by hub id.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hf_hub::RepoType;

use crate::client::{Client, Description};
use crate::download::{fetch, sha256};
use crate::error::{HubError, Result, io};
use crate::glob::{PathPattern, matching};
use crate::progress::DownloadProgress;
use crate::repository::Repository;
use crate::retry::RetryPolicy;
use crate::settings::HubSettings;

/// Files fetched at the same time.
const PARALLEL: usize = 4;
/// The files of a model repository that are fetched: what loading, tokenizing, chatting and citing need.
const MODEL_FILES: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "*.safetensors",
    "*.safetensors.index.json",
    "README.md",
    "LICENSE*",
];
/// The same weights under another tool's names; they would double the download.
const NOT_MODEL_FILES: &str = "consolidated*";

/// Files of one dataset at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The commit the files belong to.
    pub revision: String,
    /// The files, sorted by path.
    pub files: Vec<DatasetFile>,
}

/// One verified file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFile {
    /// Path inside the repository.
    pub path: String,
    /// Its path in the cache.
    pub local: PathBuf,
    /// SHA-256 of its bytes, lower-case hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// The file list of a dataset repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetListing {
    /// The commit.
    pub revision: String,
    /// Paths inside the repository, sorted.
    pub files: Vec<String>,
}

/// A client of one hub, with its cache.
#[derive(Debug)]
pub struct Hub {
    pub(crate) client: Client,
}

impl Hub {
    /// Configures the hub from HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE.
    /// With `offline`, only the cache is used.
    ///
    /// # Errors
    /// If no cache folder can be determined, or a variable has an invalid value.
    pub fn from_env(offline: bool) -> Result<Self> {
        HubSettings::from_env(offline).map(Self::new)
    }

    /// A hub with the given settings.
    #[must_use]
    pub fn new(settings: HubSettings) -> Self {
        Self::with_retry_policy(settings, RetryPolicy::default())
    }

    pub(crate) fn with_retry_policy(settings: HubSettings, retry_policy: RetryPolicy) -> Self {
        Self {
            client: Client::new(settings, retry_policy),
        }
    }

    /// The endpoint, cache and token in use.
    #[must_use]
    pub fn settings(&self) -> &HubSettings {
        self.client.settings()
    }

    /// Fetches a model's config, tokenizer, templates and safetensors; returns its snapshot folder.
    ///
    /// # Errors
    /// If the model does not exist, has no config or weights, or cannot be fetched completely.
    pub fn model(&self, id: &str, revision: Option<&str>, progress: &dyn DownloadProgress) -> Result<PathBuf> {
        let repository = self.repository(RepoType::Model, id, revision)?;
        let Description { commit, files } = self.describe(&repository)?;
        let excluded = PathPattern::new(NOT_MODEL_FILES)?;
        let mut wanted = matching(&PathPattern::all(&MODEL_FILES)?, &files);
        wanted.retain(|file| !excluded.matches(file));
        // Weights may be sharded, so any file with that ending will do.
        for missing in ["config.json", ".safetensors"] {
            if !wanted.iter().any(|file| file.ends_with(missing)) {
                return Err(HubError::NotAModel {
                    repo: repository.describe(),
                    revision: commit,
                    missing: missing.to_owned(),
                });
            }
        }
        self.fetch_all(&repository, &commit, &wanted, progress)?;
        Ok(repository.snapshot(&commit))
    }

    /// Fetches the files of a dataset that match any of `patterns`: globs in which `*`, `?`, `[0-9]` and `{a,b}`
    /// stay inside a folder and `**` crosses folders. Every file is verified, cached ones too.
    ///
    /// # Errors
    /// If the dataset does not exist, a pattern is invalid or matches nothing, or a file cannot be fetched completely.
    pub fn dataset_files(
        &self,
        id: &str,
        revision: Option<&str>,
        patterns: &[String],
        progress: &dyn DownloadProgress,
    ) -> Result<Dataset> {
        let repository = self.repository(RepoType::Dataset, id, revision)?;
        let Description { commit, files } = self.describe(&repository)?;
        let wanted = select_matching(&repository, &commit, &PathPattern::all(patterns)?, &files)?;
        let locals = self.fetch_all(&repository, &commit, &wanted, progress)?;
        let files = wanted
            .into_iter()
            .zip(locals)
            .map(|(path, local)| verified(path, local))
            .collect::<Result<_>>()?;
        Ok(Dataset {
            revision: commit,
            files,
        })
    }

    /// Lists a dataset repository's files without fetching any. Offline, this is the list that was stored when a file
    /// of that commit was last fetched.
    ///
    /// # Errors
    /// If the dataset does not exist.
    pub fn dataset_listing(&self, id: &str, revision: Option<&str>) -> Result<DatasetListing> {
        let repository = self.repository(RepoType::Dataset, id, revision)?;
        let Description { commit, files } = self.describe(&repository)?;
        Ok(DatasetListing {
            revision: commit,
            files,
        })
    }

    fn repository(&self, kind: RepoType, id: &str, revision: Option<&str>) -> Result<Repository> {
        Repository::new(kind, id, revision, &self.settings().cache)
    }

    /// Commit and files of a revision: offline from the cache, else from the hub, whose answer is stored for later.
    fn describe(&self, repository: &Repository) -> Result<Description> {
        if self.settings().offline {
            let cached = repository.cached_commit().map(|commit| {
                let files = repository.cached_listing(&commit);
                Description { commit, files }
            });
            return cached
                .filter(|description| !description.files.is_empty())
                .ok_or_else(|| HubError::Offline {
                    what: format!("{} at {}", repository.describe(), repository.revision()),
                    cache: self.settings().cache.clone(),
                });
        }
        let description = self.client.describe(repository)?;
        repository.write_ref(&description.commit)?;
        repository.write_listing(&description.commit, &description.files)?;
        Ok(description)
    }

    /// Fetches files in parallel; the first error stops the rest. Returns their paths in the order of `files`.
    pub(crate) fn fetch_all(
        &self,
        repository: &Repository,
        commit: &str,
        files: &[String],
        progress: &dyn DownloadProgress,
    ) -> Result<Vec<PathBuf>> {
        if self.settings().offline {
            let cached = |file: &String| {
                repository.cached_file(commit, file).ok_or_else(|| HubError::Offline {
                    what: format!("{file} of {}", repository.describe()),
                    cache: self.settings().cache.clone(),
                })
            };
            return files.iter().map(cached).collect();
        }
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let outcomes: Mutex<Vec<(usize, Result<PathBuf>)>> = Mutex::new(Vec::with_capacity(files.len()));
        std::thread::scope(|scope| {
            for _ in 0..PARALLEL.min(files.len()) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(file) = files.get(index) else { break };
                        let outcome = fetch(&self.client, repository, commit, file, progress);
                        stop.fetch_or(outcome.is_err(), Ordering::Relaxed);
                        let mut outcomes = outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        outcomes.push((index, outcome));
                    }
                });
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        outcomes.sort_by_key(|(index, _)| *index);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// The files that match; an error where a pattern matches none, or there are no patterns.
pub(crate) fn select_matching(
    repository: &Repository,
    commit: &str,
    patterns: &[PathPattern],
    files: &[String],
) -> Result<Vec<String>> {
    let unmatched: Vec<String> = patterns
        .iter()
        .filter(|pattern| !files.iter().any(|file| pattern.matches(file)))
        .map(|pattern| pattern.text().to_owned())
        .collect();
    if unmatched.is_empty() && !patterns.is_empty() {
        Ok(matching(patterns, files))
    } else {
        Err(HubError::no_match(repository.describe(), commit, unmatched, files))
    }
}

/// Hashes a cached file and compares it with the hash in its blob's name, where that is a SHA-256.
fn verified(path: String, local: PathBuf) -> Result<DatasetFile> {
    let bytes = std::fs::metadata(&local).map_err(io(&local, "reading"))?.len();
    let found = sha256(&local)?;
    if let Some(expected) = expected_sha256(&local).filter(|expected| *expected != found) {
        return Err(HubError::DamagedCache {
            path: local,
            expected,
            found,
        });
    }
    Ok(DatasetFile {
        path,
        local,
        sha256: found,
        bytes,
    })
}

fn expected_sha256(local: &Path) -> Option<String> {
    let blob = std::fs::read_link(local).ok()?;
    let name = blob.file_name()?.to_str()?.to_lowercase();
    (name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}
