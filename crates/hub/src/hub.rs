//! The hub as the other rooms see it: a model folder or dataset files by id.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hf_hub::RepoType;

use crate::client::{Client, Description};
use crate::download::{fetch, sha256};
use crate::error::{HubError, Result, io};
use crate::glob::matches;
use crate::patience::Patience;
use crate::repository::Repository;
use crate::settings::Settings;

/// Files fetched at the same time.
const PARALLEL: usize = 4;
/// What of a model repository is fetched: enough to load, tokenize, chat and cite.
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
/// Weights in another tool's own naming, which would double the download.
const NOT_MODEL_FILES: &str = "consolidated*";

/// Told about every file as its bytes arrive.
pub trait Progress: Sync {
    /// `done` of `total` bytes of the file `name` are on disk.
    fn file(&self, name: &str, done: u64, total: Option<u64>);
}

/// A [`Progress`] that says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn file(&self, _name: &str, _done: u64, _total: Option<u64>) {}
}

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
    /// Where it lies in the cache.
    pub local: PathBuf,
    /// SHA-256 of its bytes, lower-case hex.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// What a dataset repository holds at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The commit.
    pub revision: String,
    /// Paths inside the repository, sorted.
    pub files: Vec<String>,
}

/// A hub: where to ask, where to keep, as whom.
#[derive(Debug)]
pub struct Hub {
    pub(crate) client: Client,
}

impl Hub {
    /// A hub as the environment describes it: HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN,
    /// HF_TOKEN_PATH and HF_HUB_OFFLINE. With `offline` only the cache is used.
    ///
    /// # Errors
    /// When there is no place for a cache, or a variable cannot be used.
    pub fn from_env(offline: bool) -> Result<Self> {
        Settings::from_env(offline).map(Self::new)
    }

    /// A hub with settings of one's own.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_patience(settings, Patience::default())
    }

    pub(crate) fn with_patience(settings: Settings, patience: Patience) -> Self {
        Self {
            client: Client::new(settings, patience),
        }
    }

    /// How this hub is asked.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        self.client.settings()
    }

    /// The snapshot folder of a model with config, tokenizer, templates and safetensors.
    ///
    /// # Errors
    /// When there is no such model, it lacks a config or weights, or it cannot be fetched whole.
    pub fn model(&self, id: &str, revision: Option<&str>, progress: &dyn Progress) -> Result<PathBuf> {
        let repository = self.repository(RepoType::Model, id, revision)?;
        let Description { commit, files } = self.describe(&repository)?;
        let wanted = |file: &&String| {
            MODEL_FILES.iter().any(|pattern| matches(pattern, file)) && !matches(NOT_MODEL_FILES, file)
        };
        let wanted: Vec<String> = files.iter().filter(wanted).cloned().collect();
        for missing in ["config.json", "*.safetensors"] {
            if !wanted.iter().any(|file| matches(missing, file)) {
                let missing = missing.trim_start_matches('*').to_owned();
                return Err(HubError::NotAModel {
                    repo: repository.describe(),
                    revision: commit,
                    missing,
                });
            }
        }
        self.fetch_all(&repository, &commit, &wanted, progress)?;
        Ok(repository.snapshot(&commit))
    }

    /// The files of a dataset that match any of `patterns`: globs in which `*` stays inside a
    /// folder and `**` does not. Every file is verified, cached ones too.
    ///
    /// # Errors
    /// When there is no such dataset, a pattern matches nothing, or a file cannot be fetched whole.
    pub fn dataset_files(
        &self,
        id: &str,
        revision: Option<&str>,
        patterns: &[String],
        progress: &dyn Progress,
    ) -> Result<Dataset> {
        let repository = self.repository(RepoType::Dataset, id, revision)?;
        let Description { commit, files } = self.describe(&repository)?;
        let unmatched: Vec<String> = patterns
            .iter()
            .filter(|pattern| !files.iter().any(|file| matches(pattern, file)))
            .cloned()
            .collect();
        if !unmatched.is_empty() || patterns.is_empty() {
            return Err(HubError::no_match(&repository, &commit, unmatched, &files));
        }
        let wanted: Vec<String> = files
            .into_iter()
            .filter(|file| patterns.iter().any(|pattern| matches(pattern, file)))
            .collect();
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

    /// What a dataset repository holds, without fetching any of it. Offline it is the list that
    /// was seen when something of that commit was last fetched.
    ///
    /// # Errors
    /// When there is no such dataset.
    pub fn dataset_listing(&self, id: &str, revision: Option<&str>) -> Result<Listing> {
        let repository = self.repository(RepoType::Dataset, id, revision)?;
        let Description { commit, files } = self.describe(&repository)?;
        Ok(Listing {
            revision: commit,
            files,
        })
    }

    fn repository(&self, kind: RepoType, id: &str, revision: Option<&str>) -> Result<Repository> {
        Repository::new(kind, id, revision, &self.settings().cache)
    }

    /// Commit and files of a revision: from the cache offline or where a full commit is known
    /// there, else from the hub, whose answer is remembered.
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

    /// Fetches files side by side; the first error stops the rest. Paths come in the order asked for.
    pub(crate) fn fetch_all(
        &self,
        repository: &Repository,
        commit: &str,
        files: &[String],
        progress: &dyn Progress,
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

/// Hashes a cached file and holds it against its blob's name, where that is a SHA-256.
fn verified(path: String, local: PathBuf) -> Result<DatasetFile> {
    let bytes = std::fs::metadata(&local).map_err(io(&local, "reading"))?.len();
    let found = sha256(&local)?;
    if let Some(expected) = announced(&local).filter(|expected| *expected != found) {
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

fn announced(local: &Path) -> Option<String> {
    let blob = std::fs::read_link(local).ok()?;
    let name = blob.file_name()?.to_str()?.to_lowercase();
    (name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}
